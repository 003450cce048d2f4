// CUB's radix sort of a block: keys with values.
#include <cub/block/block_radix_sort.cuh>
extern "C" __global__ void cub_sort(int *keys, unsigned short *values) {
    using Sort = cub::BlockRadixSort<int, 64, 2, unsigned short>;
    __shared__ Sort::TempStorage storage;
    int k[2], i = blockIdx.x * 128 + threadIdx.x * 2;
    unsigned short v[2];
    for (int j = 0; j < 2; ++j) k[j] = keys[i + j], v[j] = values[i + j];
    Sort(storage).SortBlockedToStriped(k, v);
    i = blockIdx.x * 128 + threadIdx.x;
    for (int j = 0; j < 2; ++j) keys[i + 64 * j] = k[j], values[i + 64 * j] = v[j];
}
