/*
 * fuzz_backup.c - libFuzzer over what `verify` and `restore` read of a backup.  The first byte says what the rest is: the manifest; or changes of its
 * database, whose digest the manifest then gives rightly, so that what is hostile is believed up to the rows.  Either command refuses it with a
 * reason or both take it.
 * Changes are four bytes each, three of the place and one value, after two that say how much of the end is missing (0: nothing).
 */
#include "tests/unit/daemon/storage_fixture.h"

#include "core/base/hash.h"
#include "core/base/io.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "storage/backup.h"

#include <assert.h>
#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *database, whole[HASH_TEXT_SIZE];
static size_t database_n;
static char backup[300], data_folder[300], file[400];

/* backup/<hex of the digest>.db */
static const char *database_path(const char *digest)
{
    snprintf(file, sizeof file, "%s/%s.db", backup, digest + strlen("sha256:"));
    return file;
}

static char *read_file(const char *path, size_t *ret_n)
{
    char *text;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert(fd >= 0 && io_read_all(fd, path, 64 << 20, &text, ret_n, NULL));
    close(fd);
    return text;
}

static void write_file(const char *path, const void *p, size_t n)
{
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert(fd >= 0 && io_write_all(fd, p, n) == 0);
    close(fd);
}

static void make_backup(void)
{
    static struct fixture *f;
    struct backup_sum sum;
    char job[ID_SIZE];
    size_t n;
    assert(fixture_setup((void **)&f) == 0);
    for (int i = 0; i < 4; i++)
        fixture_job(f, i, job);
    store_close(f->store);
    snprintf(backup, sizeof backup, "%s/copy", f->dir);
    snprintf(data_folder, sizeof data_folder, "%s/again", f->dir);
    assert(backup_make(f->dir, backup, "0", &sum, NULL) && sum.blobs == 1);
    snprintf(file, sizeof file, "%s/manifest.json", backup);
    char *text = read_file(file, &n);
    json_t *manifest = json_parse(text, n, 8, ERR_BUG, NULL);
    snprintf(whole, sizeof whole, "%s", json_string_value(json_object_get(json_object_get(manifest, "database"), "digest")));
    json_decref(manifest);
    free(text);
    database = read_file(database_path(whole), &database_n);
    log_set_level(LOG_LEVELS);
}

static void write_manifest(const char *text, size_t n)
{
    char path[400];
    snprintf(path, sizeof path, "%s/manifest.json", backup);
    write_file(path, text, n);
}

/* The changed database under its own name, and a manifest of it. */
static void write_database(const uint8_t *data, size_t size, char ret_digest[HASH_TEXT_SIZE])
{
    char *bytes = malloc(database_n), manifest[300];
    size_t missing = size >= 2 ? data[0] * 256u + data[1] : 0, n = database_n - missing % database_n;
    uint8_t digest[HASH_SIZE];
    assert(bytes);
    memcpy(bytes, database, database_n);
    for (size_t i = 2; i + 4 <= size; i += 4)
        bytes[(data[i] << 16 | data[i + 1] << 8 | data[i + 2]) % database_n] = (char)data[i + 3];
    hash_bytes(bytes, n, digest);
    hash_text(digest, ret_digest);
    write_file(database_path(ret_digest), bytes, n);
    int length = snprintf(manifest, sizeof manifest,
                          "{\"format\":\"repquant-backup-1\",\"database\":{\"digest\":\"%s\",\"bytes\":%zu}}", ret_digest, n);
    write_manifest(manifest, (size_t)length);
    free(bytes);
}

static void told(void *arg, const struct err *damage)
{
    assert(damage->code != ERR_NONE && damage->text[0]);
    ++*(int *)arg;
}

static void check(void)
{
    struct err verified = { 0 }, restored = { 0 };
    struct backup_sum sum;
    int damages = 0;
    bool whole_backup = backup_verify(backup, told, &damages, &sum, &verified), usable = backup_restore(backup, data_folder, &sum, &restored);
    assert(whole_backup == (verified.code == ERR_NONE) && usable == (restored.code == ERR_NONE) && whole_backup == usable);
    assert((whole_backup || (verified.text[0] && restored.text[0])) && (damages == 0 || !whole_backup));
    assert(verified.code != ERR_BUG && restored.code != ERR_BUG && !strstr(verified.where, ".."));     /* nothing was looked for elsewhere */
    if (access(data_folder, F_OK) == 0)
        nftw(data_folder, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char digest[HASH_TEXT_SIZE] = "";
    if (!database)
        make_backup();
    if (size < 1)
        return 0;
    if (data[0] % 2)
        write_database(data + 1, size - 1, digest);
    else
        write_manifest((const char *)data + 1, size - 1);
    check();
    if (digest[0] && strcmp(digest, whole) != 0)
        unlink(database_path(digest));
    return 0;
}
