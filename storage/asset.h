/*
 * asset.h - models and data sets: named, immutable sets of blobs that were looked into once.
 *
 * Both have the same life: blobs are uploaded, a child process inspects them, and what it found
 * (the inventory) is stored with the row.  An asset exists whole or not at all; deleting it
 * releases its blobs.  The id's prefix tells the kind: mdl_ or ds_.
 */
#ifndef STORAGE_ASSET_H
#define STORAGE_ASSET_H

#include "storage/idempotency.h"

enum asset_kind { ASSET_MODEL, ASSET_DATASET };

enum { ASSET_MAX_FILES = 256, ASSET_PATH_SIZE = 256, ASSET_NAME_SIZE = 256 };

struct asset_file {
    char path[ASSET_PATH_SIZE];     /* the name the model uses for it: a key, never a path of ours */
    char digest[HASH_TEXT_SIZE];
    uint64_t size;                  /* filled by asset_insert() from the blob's row */
    bool corrupt;                   /* its bytes have rotted, see scrub.h */
};

struct asset {
    char id[ID_SIZE], team[TEAM_SIZE];
    enum asset_kind kind;
    char name[ASSET_NAME_SIZE];
    char format[16];                /* "onnx", "npz", ... */
    char digest[HASH_TEXT_SIZE];    /* of the file, or of the list of files if there are several */
    uint64_t bytes;                 /* of all files */
    int64_t created_at;
    bool corrupt;                   /* one of its files is */
    char *inventory;                /* JSON, malloc'd; NULL in lists */
    struct asset_file *files;       /* malloc'd; in the order given; NULL in lists */
    size_t nfiles;
};
void asset_release(struct asset *a);

/*
 * Stores team, kind, name, format, inventory and files of `a`; fills its id, digest, bytes,
 * created_at and the files' sizes.  ERR_NOT_FOUND names a blob the team does not own.  key may be NULL; ERR_CONFLICT at
 * IDEMPOTENCY_FIELD: another request used it meanwhile, look again with idempotency_find().
 */
bool asset_insert(struct store *s, const char *team, struct asset *a, const struct idempotency *key, struct err *e);

/* Without inventory and files, as in lists. */
bool asset_get_row(struct store *s, const char *team, enum asset_kind kind, const char *id, struct asset *ret, struct err *e);
/* With them. */
bool asset_get(struct store *s, const char *team, enum asset_kind kind, const char *id, struct asset *ret, struct err *e);

struct asset_list { struct asset *items; size_t n; bool more; };
bool asset_list(struct store *s, const char *team, enum asset_kind kind, struct page page, struct asset_list *ret, struct err *e);
void asset_list_release(struct asset_list *l);

/* ERR_CONFLICT while a job that has not ended uses it. */
bool asset_delete(struct store *s, const char *team, enum asset_kind kind, const char *id, struct err *e);

#endif
