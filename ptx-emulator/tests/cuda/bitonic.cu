// A bitonic sort of 512 keys with values in shared memory, by 256 threads.
extern "C" __global__ void bitonic(int *keys, unsigned *values) {
    __shared__ int k[512];
    __shared__ unsigned v[512];
    keys += blockIdx.x * 512, values += blockIdx.x * 512;
    for (unsigned i = threadIdx.x; i < 512; i += 256) k[i] = keys[i], v[i] = values[i];
    for (unsigned size = 2; size <= 512; size *= 2)
        for (unsigned step = size / 2; step > 0; step /= 2) {
            __syncthreads();
            unsigned low = threadIdx.x / step * 2 * step + threadIdx.x % step, high = low + step;
            bool up = (low & size) == 0;
            if ((k[low] > k[high]) == up) {
                int key = k[low]; k[low] = k[high], k[high] = key;
                unsigned value = v[low]; v[low] = v[high], v[high] = value;
            }
        }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < 512; i += 256) keys[i] = k[i], values[i] = v[i];
}
