// Planted: barriers that not all threads reach together.
extern "C" __global__ void divergent_barrier(const int *x, int *out) {
    if (x[threadIdx.x] > 0) {
        __syncthreads(); // planted: divergent_barrier
        out[threadIdx.x] = 2;
    }
    // Those who had not to wait there wait here.
    __syncthreads();
    out[threadIdx.x] += 1;
}
extern "C" __global__ void two_named_barriers(int *out) {
    int id = threadIdx.x < 32 ? 1 : 2;
    asm volatile("bar.sync %0, 64;" ::"r"(id) : "memory"); // planted: two_named_barriers
    out[threadIdx.x] = id;
}
extern "C" __global__ void warp_never_comes(int *out) {
    if (threadIdx.x < 32) asm volatile("bar.sync 1, 64;" ::: "memory");
    out[threadIdx.x] = 1;
}
extern "C" __global__ void shuffle_from_outside(const int *x, int *out) {
    int lane = threadIdx.x, v = x[lane];
    if (lane < 16)
        v = __shfl_sync(0xffff, v, lane + 8); // planted
    out[lane] = v;
}
extern "C" __global__ void outside_its_mask(const int *x, int *out) {
    int v = x[threadIdx.x];
    out[threadIdx.x] = v +
        __shfl_sync(0xffff, v, 3); // planted
}
extern "C" __global__ void shuffle_after_exit(const int *x, int *out) {
    int lane = threadIdx.x;
    if (lane >= 24) return;
    out[lane] = x[lane] +
        __shfl_down_sync(0xffffff, x[lane], 4); // planted
}
