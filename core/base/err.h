/*
 * err.h - what went wrong, for the code that must decide and the person who must read.
 *
 * One type from the lowest layer to the client.  A function that can fail takes
 * a `struct err *e` as its last parameter and returns false (or NULL) after
 * filling it.  The struct is fixed-size and owns no memory, so running out of
 * memory can be reported like anything else.
 *
 *   - e may be NULL: the caller does not care why.
 *   - The first error wins; a later err_set() on the same struct changes
 *     nothing, so cleanup code cannot hide the cause.
 *   - Never log here.  The top loops (a request, a job, main) log, once.
 *
 * The same object is a problem document (RFC 9457) over HTTP, the `problem` of
 * a failed job and the message of the command line.
 */
#ifndef CORE_BASE_ERR_H
#define CORE_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

/*
 * X(name, code, HTTP status, exit code, retryable, title): one row, one truth.
 * Codes are stable: clients branch on them.  Exit codes: 1 the input is at
 * fault, 2 usage, 3 the environment, 4 a bug of ours.
 */
#define ERR_CODES(X)                                                                           \
    /* the request itself */                                                                   \
    X(REQUEST_INVALID, "request.invalid", 400, 2, 0, "The request is not valid")               \
    X(REQUEST_FRAMING, "request.framing", 400, 1, 0, "The HTTP message framing is ambiguous")  \
    X(REQUEST_JSON, "request.json", 400, 1, 0, "The body is not the JSON this route takes")    \
    X(REQUEST_TOO_LARGE, "request.too_large", 413, 1, 0, "The body is over the limit")         \
    X(REQUEST_MEDIA_TYPE, "request.media_type", 415, 1, 0, "This route takes another type")    \
    X(REQUEST_RANGE, "request.range", 416, 1, 0, "The range cannot be served")                 \
    X(REQUEST_HEAD, "request.head_too_large", 431, 1, 0, "The head of the request is over a limit")  \
    X(REQUEST_TIMEOUT, "request.timeout", 408, 1, 1, "The request took too long")              \
    X(REQUEST_LENGTH, "request.length_required", 411, 1, 0, "The length must be declared")     \
    X(REQUEST_REFERENCE, "request.reference", 422, 1, 0, "The request names what does not exist")  \
    X(NOT_FOUND, "resource.not_found", 404, 1, 0, "No such resource")                          \
    X(METHOD, "resource.method_not_allowed", 405, 1, 0, "This path takes another method")      \
    X(CONFLICT, "resource.conflict", 409, 1, 0, "Not possible in this state")                  \
    X(PRECONDITION, "resource.precondition", 412, 1, 0, "The resource has changed")            \
    X(IDEMPOTENCY, "idempotency.key_reused", 422, 1, 0, "The key was used for another request") \
    /* who */                                                                                  \
    X(AUTH_REQUIRED, "auth.required", 401, 1, 0, "A valid token is needed")                    \
    X(AUTH_FORBIDDEN, "auth.forbidden", 403, 1, 0, "The token does not allow this")            \
    X(AUTH_HOST, "auth.host", 421, 1, 0, "This host name is not served here")                  \
    X(QUOTA, "quota.exceeded", 403, 1, 0, "The team's quota is used up")                       \
    X(RATE, "quota.rate", 429, 1, 1, "Too many requests")                                      \
    /* uploads */                                                                              \
    X(UPLOAD_DIGEST, "upload.digest_mismatch", 422, 1, 0, "The bytes do not match the digest") \
    X(UPLOAD_CHECKSUM, "upload.checksum_mismatch", 460, 1, 1, "The bytes do not match the checksum") \
    X(UPLOAD_OFFSET, "upload.offset", 409, 1, 0, "The upload stands at another offset")        \
    X(UPLOAD_BUSY, "upload.busy", 423, 1, 1, "Another request is writing to the upload")       \
    X(UPLOAD_INCOMPLETE, "upload.incomplete", 400, 1, 1, "The upload ended early")             \
    X(TARGET, "target.forbidden", 422, 1, 0, "This address may not be asked")                  \
    X(TARGET_FAILED, "target.failed", 502, 1, 1, "The other server did not answer as it should") \
    /* models */                                                                               \
    X(MODEL_FORMAT, "model.format", 422, 1, 0, "The file is not an ONNX model")                \
    X(MODEL_INVALID, "model.invalid", 422, 1, 0, "The model breaks the ONNX rules")            \
    X(MODEL_LIMIT, "model.limit_exceeded", 422, 1, 0, "The model is over a limit")             \
    X(MODEL_EXTERNAL, "model.external_data", 422, 1, 0, "External data is missing or unsafe")  \
    X(MODEL_OP, "model.unsupported_op", 422, 1, 0, "The model has an operator we cannot run")  \
    X(MODEL_OPSET, "model.opset", 422, 1, 0, "The model's opset is not supported")             \
    X(MODEL_SHAPE, "model.shape", 422, 1, 0, "Shapes in the model do not fit together")        \
    X(MODEL_UNBOUND, "model.dynamic_dim_unbound", 422, 1, 0, "A dimension could not be bound") \
    /* data */                                                                                 \
    X(DATA_FORMAT, "dataset.format", 422, 1, 0, "The data file cannot be read")                \
    X(DATA_SCHEMA, "dataset.schema", 422, 1, 0, "The arrays do not match the model's inputs")  \
    X(DATA_DTYPE, "dataset.dtype", 422, 1, 0, "An array has the wrong element type")           \
    X(DATA_SHAPE, "dataset.shape_mismatch", 422, 1, 0, "An array does not fit the input")      \
    X(DATA_VALUES, "dataset.values", 422, 1, 0, "An array holds values that cannot be used")   \
    X(DATA_REQUIRED, "dataset.required", 422, 1, 0, "The recipe needs calibration data")       \
    X(DATA_LIMIT, "dataset.limit_exceeded", 422, 1, 0, "The data file is over a limit")        \
    /* recipes */                                                                              \
    X(RECIPE_UNKNOWN, "recipe.unknown", 422, 1, 0, "No recipe has this name")                  \
    X(RECIPE_FIELD, "recipe.field", 422, 1, 0, "A field of the recipe is not valid")           \
    X(RECIPE_COMBINATION, "recipe.combination", 422, 1, 0, "These fields exclude each other")  \
    /* the run */                                                                              \
    X(NUMERIC_NONFINITE, "numeric.nonfinite", 422, 1, 0, "A tensor holds NaN or infinity")     \
    X(EXPORT_PARITY, "export.parity_failed", 500, 4, 0, "The artifact differs from what was simulated") \
    X(EXPORT_FORM, "export.form", 422, 1, 0, "The artifact has no standard form")              \
    X(MEMORY, "resource.memory", 503, 3, 1, "Not enough memory for this")                      \
    X(MEMORY_LIMIT, "resource.memory_exceeded", 422, 1, 0, "The job needs more memory than jobs may take") \
    X(DISK, "resource.disk", 507, 3, 1, "No space left for this")                              \
    X(DEADLINE, "resource.deadline", 503, 3, 1, "The time limit was reached")                  \
    X(PERMISSION, "environment.permission", 500, 3, 0, "The system refused access")            \
    X(NO_FILE, "environment.no_such_file", 404, 1, 0, "The file does not exist")               \
    X(IO, "environment.io", 500, 3, 1, "Reading or writing failed")                            \
    X(CORRUPT, "storage.corrupt", 410, 3, 0, "The stored bytes are no longer those of their digest") \
    X(BLAS, "environment.blas", 500, 3, 0, "The BLAS library computes wrong results")          \
    X(CONFIG, "environment.config", 500, 2, 0, "The configuration is not valid")               \
    X(WORKER_LOST, "worker.lost", 500, 3, 1, "The job's process ended without a result")       \
    X(CANCELED, "worker.canceled", 409, 1, 0, "The job was canceled")                          \
    X(DRAINING, "service.draining", 503, 3, 1, "The service is shutting down")                 \
    X(BUSY, "service.busy", 503, 3, 1, "The service is busy")                                  \
    X(BUG, "internal.bug", 500, 4, 0, "Internal error")

enum err_code {
    ERR_NONE,
#define X(name, code, status, exit, retry, title) ERR_##name,
    ERR_CODES(X)
#undef X
    ERR_CODES_END
};

struct err {
    enum err_code code;
    char where[160];  /* node, tensor or JSON pointer: "node 17 'fc1' (Gemm)", "/weights/bits"; may be "" */
    char text[400];   /* one sentence with the remedy; HTTP clients see it only for statuses below 500 */
};

/* Fill e unless it is already set; what is no UTF-8 in it, or cut, is mended, so both texts can be JSON.  Always returns false: `return err_set(...)`. */
bool err_set(struct err *e, enum err_code code, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), cold));

/* As err_set() with errno's text appended; the code follows from errno. */
bool err_sys(struct err *e, const char *where, const char *what) __attribute__((cold));

/* That they return false is said where compilers and analysers see it: what a failed function left unset is not used. */
static inline bool err_false(void) { return false; }
#define err_set(...) (err_set(__VA_ARGS__), err_false())
#define err_sys(...) (err_sys(__VA_ARGS__), err_false())

/* "where" for node `index` of a graph: "node 17 'fc1' (Gemm)".  Returns buf. */
const char *err_node(char *buf, size_t size, size_t index, const char *name, const char *op);

const char *err_slug(enum err_code code);        /* "model.unsupported_op" */
const char *err_title(enum err_code code);
int err_http_status(enum err_code code);
int err_exit_code(enum err_code code);           /* 0 for ERR_NONE */
bool err_retryable(enum err_code code);
enum err_code err_from_slug(const char *slug);   /* ERR_NONE if unknown */

#endif
