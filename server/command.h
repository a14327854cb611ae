/*
 * command.h - repquantd's other commands: backup, verify, restore.  Each runs beside a daemon, says what it did on standard output
 * and ends; exit codes are err.h's.
 */
#ifndef SERVER_COMMAND_H
#define SERVER_COMMAND_H

#include <stdbool.h>

/* Whether argv[1] is a command and not an option. */
bool command_called(int argc, char **argv);
int command_main(int argc, char **argv);

#endif
