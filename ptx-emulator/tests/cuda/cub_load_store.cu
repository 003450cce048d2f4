// CUB's loads and stores of a block, through shared memory, with a last tile that is not full.
#include <cub/block/block_load.cuh>
#include <cub/block/block_store.cuh>
extern "C" __global__ void cub_load_store(const short *x, short *out, int n) {
    using Load = cub::BlockLoad<short, 64, 4, cub::BLOCK_LOAD_WARP_TRANSPOSE>;
    using Store = cub::BlockStore<short, 64, 4, cub::BLOCK_STORE_TRANSPOSE>;
    __shared__ union { Load::TempStorage load; Store::TempStorage store; } storage;
    short items[4];
    int first = blockIdx.x * 256, valid = min(n - first, 256);
    if (valid == 256) Load(storage.load).Load(x + first, items);
    else Load(storage.load).Load(x + first, items, valid, (short)-1);
    for (int j = 0; j < 4; ++j) items[j] = items[j] * 4 + j;
    __syncthreads();
    if (valid == 256) Store(storage.store).Store(out + first, items);
    else Store(storage.store).Store(out + first, items, valid);
}
