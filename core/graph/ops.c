/* ops.c - the operators by name. */
#include "core/graph/graph.h"

#include <string.h>

const struct op_info op_info[OPS] = {
#define X(name, type, domain, i0, i1, o0, o1) [OP_##name] = { type, domain, i0, i1, o0, o1 },
    GRAPH_OPS(X)
#undef X
};

bool op_find(const char *type, const char *domain, enum op *ret)
{
    for (int i = 0; i < OP_CALL; i++)
        if (strcmp(op_info[i].type, type) == 0 && strcmp(op_info[i].domain, domain) == 0) {
            *ret = (enum op)i;
            return true;
        }
    return false;
}
