// A lock in global memory that one thread of each block takes, around an update that is not atomic.
extern "C" __global__ void spin_lock(unsigned *lock, volatile unsigned *values, unsigned rounds) {
    if (threadIdx.x != 0) return;
    for (unsigned i = 0; i < rounds; ++i) {
        while (atomicCAS(lock, 0u, 1u) != 0) {}
        __threadfence();
        unsigned v = values[0];
        values[0] = v + 1;
        values[1] = values[1] + v;
        __threadfence();
        atomicExch(lock, 0u);
    }
}
