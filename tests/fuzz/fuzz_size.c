/* fuzz_size.c - libFuzzer over the size of a tensor: any type and shape, against arithmetic that cannot overflow. */
#include "core/base/tensor.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DIM_BITS = 40, BYTES_BITS = 46 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shape s = { 0 };
    struct err e = { 0 };
    uint64_t elements = 0, bytes = 0;
    if (size < 2)
        return 0;
    enum dtype type = (enum dtype)(data[0] % 32);
    if (!dtype_bits(type))
        return 0;
    s.rank = data[1] % 10;
    for (int i = 0; i < s.rank && i < TENSOR_MAX_RANK && 2 + 8 * (size_t)(i + 1) <= size; i++)
        memcpy(&s.dim[i], data + 2 + 8 * i, 8);
    bool empty = false, fits = s.rank <= TENSOR_MAX_RANK;
    __extension__ unsigned __int128 n = 1;
    for (int i = 0; fits && i < s.rank; i++) {
        fits = s.dim[i] >= 0 && s.dim[i] <= (int64_t)1 << DIM_BITS;
        empty |= s.dim[i] == 0;
        n *= fits && s.dim[i] ? (uint64_t)s.dim[i] : 1;
        fits &= n >> 80 == 0;
    }
    bool ok = tensor_size(type, &s, "t", &elements, &bytes, &e);
    assert(ok == (e.code == ERR_NONE));
    if (ok)
        assert(fits && elements == (empty ? 0 : n) && bytes == (elements * (unsigned)dtype_bits(type) + 7) / 8 && bytes <= (uint64_t)1 << BYTES_BITS);
    else
        assert(e.text[0] && (!fits || n > (uint64_t)1 << BYTES_BITS || n * (unsigned)dtype_bits(type) / 8 > (uint64_t)1 << BYTES_BITS));
    return 0;
}
