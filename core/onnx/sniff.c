/* sniff.c - what people upload when they mean an ONNX model.  A table of first bytes, and three formats that need a look. */
#include "core/onnx/onnx.h"

#include <string.h>
#include <strings.h>

#define EXPORT "export it with torch.onnx.export (see README)"

static const struct magic {
    uint8_t at, n;
    const char *bytes, *what;
} magics[] = {
#define ROW(at, bytes, what) { at, sizeof(bytes) - 1, bytes, what }
    ROW(0, "GGUF", "a GGUF model of llama.cpp; export the original model to ONNX (see README)"),
    ROW(4, "TFL3", "a TensorFlow Lite model; convert the original model with tf2onnx"),
    ROW(4, "ORTM", "an ONNX Runtime .ort file; upload the .onnx file it was made from"),
    ROW(0, "\x89HDF\r\n\x1a\n", "a Keras HDF5 file; convert it with tf2onnx"),
    ROW(0, "ptrt", "a TensorRT engine; upload the ONNX model it was built from"),
    ROW(0, "ftrt", "a TensorRT engine; upload the ONNX model it was built from"),
    ROW(0, "version https://git-lfs", "a Git LFS pointer, not the model; run 'git lfs pull' and upload the real file"),
    ROW(0, "\x1f\x8b", "a gzip archive; unpack it and upload the .onnx file"),
    ROW(0, "\x28\xb5\x2f\xfd", "a zstd archive; unpack it and upload the .onnx file"),
    ROW(0, "\xff\xd8\xff", "a JPEG picture; pictures belong in a dataset, upload a .onnx file as the model"),
    ROW(0, "\x89PNG\r\n\x1a\n", "a PNG picture; pictures belong in a dataset, upload a .onnx file as the model"),
    ROW(0, "\x93NUMPY", "a NumPy array; arrays belong in a dataset, upload a .onnx file as the model"),
    ROW(0, "\x7f" "ELF", "a Linux program or library; upload a .onnx file"),
    ROW(0, "<!doctype html", "a web page, so the download has gone wrong; fetch the file again and check it"),
    ROW(0, "<html", "a web page, so the download has gone wrong; fetch the file again and check it"),
    ROW(0, "<?xml", "an XML file, perhaps an OpenVINO model; upload the ONNX model it was made from"),
    ROW(0, "<net ", "an OpenVINO model; upload the ONNX model it was made from"),
    ROW(0, "ir_version:", "an ONNX model in text form; save it with onnx.save as .onnx"),
    ROW(0, "{", "a JSON text; upload the .onnx file itself"),
#undef ROW
};

static bool equal_nocase(const uint8_t *p, const char *s, size_t n) { return strncasecmp((const char *)p, s, n) == 0; }

/* Zip: the first entry's name tells a PyTorch checkpoint from arrays.  Local header: name length at 26, name at 30. */
static const char *sniff_zip(const uint8_t *p, uint64_t size)
{
    enum { NAME_N = 26, NAME = 30 };
    if (size < NAME || memcmp(p, "PK\3\4", 4) != 0)
        return NULL;
    size_t n = (size_t)p[NAME_N] | (size_t)p[NAME_N + 1] << 8, left = (size_t)(size - NAME);
    if (n > left)
        n = left;
    if (memmem(p + NAME, n, "data.pkl", 8))
        return "a PyTorch checkpoint; " EXPORT;
    if (memmem(p + NAME, n, ".npy", 4))
        return "a NumPy .npz archive; arrays belong in a dataset, upload a .onnx file as the model";
    return "a zip archive, perhaps a PyTorch or Keras model; unpack it and upload the .onnx file, or export the model to ONNX (see README)";
}

/* Pickle protocol 2 and later: PROTO, its number. */
static const char *sniff_pickle(const uint8_t *p, uint64_t size)
{
    return size >= 2 && p[0] == 0x80 && p[1] >= 2 && p[1] <= 5 ? "a PyTorch pickle; " EXPORT : NULL;
}

/* safetensors: a little-endian u64, then that many bytes of JSON. */
static const char *sniff_safetensors(const uint8_t *p, uint64_t size)
{
    uint64_t n;
    if (size < sizeof n + 2)
        return NULL;
    memcpy(&n, p, sizeof n);
    return n >= 2 && n <= 100000000 && p[8] == '{' ? "a safetensors file, which has weights but no graph; " EXPORT : NULL;
}

const char *onnx_sniff(const uint8_t *data, uint64_t size)
{
    static const char *(*const looks[])(const uint8_t *, uint64_t) = { sniff_zip, sniff_pickle, sniff_safetensors };
    if (size == 0)
        return "empty; upload it again";
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        const struct magic *m = &magics[i];
        if (size >= (uint64_t)m->at + m->n && equal_nocase(data + m->at, m->bytes, m->n))
            return m->what;
    }
    for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++) {
        const char *what = looks[i](data, size);
        if (what)
            return what;
    }
    return NULL;
}
