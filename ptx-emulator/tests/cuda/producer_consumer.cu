// One warp fills two buffers, three warps empty them; they meet at named barriers: full 1 and 2, empty 3 and 4.
template <int THREADS> __device__ void sync(int id) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(THREADS) : "memory");
}
template <int THREADS> __device__ void arrive(int id) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "n"(THREADS) : "memory");
}

extern "C" __global__ void producer_consumer(const int *x, int *out, int rounds) {
    __shared__ int buffers[2][96];
    int t = threadIdx.x;
    if (t < 32) {
        for (int i = 0; i < rounds; ++i) {
            if (i >= 2) sync<128>(3 + i % 2);
            for (int j = t; j < 96; j += 32) buffers[i % 2][j] = x[i * 96 + j] * 2;
            __threadfence_block();
            arrive<128>(1 + i % 2);
        }
    } else {
        int sum = 0;
        for (int i = 0; i < rounds; ++i) {
            sync<128>(1 + i % 2);
            sum = sum * 3 + buffers[i % 2][127 - t];
            if (i + 2 < rounds) arrive<128>(3 + i % 2);
        }
        out[t - 32] = sum;
    }
}
