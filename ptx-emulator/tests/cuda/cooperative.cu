// Cooperative groups: tiles of 8 lanes that reduce and shuffle, a tile of 32, the block.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
namespace cg = cooperative_groups;
extern "C" __global__ void cooperative(const int *x, int *sums, int *maxima, int *ranks) {
    cg::thread_block block = cg::this_thread_block();
    cg::thread_block_tile<8> tile = cg::tiled_partition<8>(block);
    cg::thread_block_tile<32> warp = cg::tiled_partition<32>(block);
    int i = block.group_index().x * block.size() + block.thread_rank(), v = x[i];
    sums[i] = cg::reduce(tile, v, cg::plus<int>());
    maxima[i] = cg::reduce(warp, v, cg::greater<int>());
    ranks[i] = tile.shfl(v, 2) * 64 + tile.meta_group_rank() * 8 + tile.thread_rank();
    if (v & 1) {
        cg::coalesced_group odd = cg::coalesced_threads();
        ranks[i] += 1000000 * odd.thread_rank();
    }
}
