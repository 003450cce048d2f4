// Division of 128 bits: NVVM emits chains that read the flag of `subc.cc` with `addc`.
__device__ unsigned __int128 wide(const unsigned long long *p) { return (unsigned __int128)p[1] << 64 | p[0]; }

extern "C" __global__ void division_128(const unsigned long long *x, const unsigned long long *y,
                                        unsigned long long *quotients, unsigned long long *rests) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned __int128 a = wide(x + 2 * i), b = wide(y + 2 * i), q = a / b, r = a % b;
    quotients[2 * i] = (unsigned long long)q;
    quotients[2 * i + 1] = (unsigned long long)(q >> 64);
    rests[2 * i] = (unsigned long long)r;
    rests[2 * i + 1] = (unsigned long long)(r >> 64);
}
