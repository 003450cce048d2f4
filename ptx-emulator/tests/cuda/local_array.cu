// An array in local memory, indexed by data: an insertion sort, and a table that a loop fills.
extern "C" __global__ void local_array(const int *x, int *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, a[16];
    for (int j = 0; j < 16; ++j) {
        int v = x[i * 16 + j], k = j;
        for (; k > 0 && a[k - 1] > v; --k) a[k] = a[k - 1];
        a[k] = v;
    }
    int at = a[0] & 15, sum = 0;
    for (int j = 0; j < 16; ++j) {
        out[i * 17 + j] = a[j];
        sum = sum * 3 + a[at];
        at = (a[at] + j) & 15;
    }
    out[i * 17 + 16] = sum;
}
