// Several arrays in one block of dynamic shared memory, beside a static one.
extern __shared__ __align__(16) unsigned char memory[];
extern "C" __global__ void dynamic_shared(const int *x, double *doubles, int *ints, unsigned char *bytes, int n) {
    __shared__ int fixed[4];
    double *d = reinterpret_cast<double *>(memory);
    int *s = reinterpret_cast<int *>(d + n);
    unsigned char *b = reinterpret_cast<unsigned char *>(s + n);
    int t = threadIdx.x;
    if (t < 4) fixed[t] = 100 * t;
    if (t < n) d[t] = x[t] * 0.5, s[t] = x[t], b[t] = x[t];
    __syncthreads();
    if (t < n) {
        int other = n - 1 - t;
        doubles[t] = d[other], ints[t] = s[other] + fixed[t % 4], bytes[t] = b[other];
    }
}
