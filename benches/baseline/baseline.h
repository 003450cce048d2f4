/* The loops that people write, compiled twice: NAME puts the compilation's name behind a function's. */
#include <math.h>
#include <stddef.h>

#define JOIN(name, suffix) name##_##suffix
#define EXPANDED(name, suffix) JOIN(name, suffix)
#define NAME(name) EXPANDED(ssm_baseline_##name, SUFFIX)

/* The arguments of a selective scan with every option on. A lies dense, (dim, dstate). */
struct scan {
    size_t batch, dim, seqlen, dstate;
    /* Elements between neighbours along batch, dim and seqlen, of x, dt, z, out and their gradients. */
    size_t batch_stride, dim_stride, time_stride;
    /* The same along batch, dstate and seqlen, of B and C, which all channels share. */
    size_t rows_batch_stride, rows_state_stride, rows_time_stride;
    const float *x, *dt, *A, *B, *C, *D, *z, *dt_bias;
};

struct scan_gradients {
    float *dx, *ddt, *dA, *dB, *dC, *dD, *dz, *ddt_bias;
};

/* The arguments of a discretisation with zero-order hold over (batch, dim, seqlen, dstate). */
struct zoh {
    size_t batch, dim, seqlen, dstate;
    /* Of dt. */
    size_t batch_stride, dim_stride, time_stride;
    /* Of B. */
    size_t rows_batch_stride, rows_state_stride, rows_time_stride;
    const float *dt, *A, *B, *dt_bias;
};

/* The arguments of a causal convolution with bias and silu. weight lies dense, (dim, width). */
struct conv {
    size_t batch, dim, seqlen, width;
    /* Of x, out and their gradients. */
    size_t batch_stride, dim_stride, time_stride;
    const float *x, *weight, *bias;
};

struct conv_gradients {
    float *dx, *dweight, *dbias;
};

/* The arguments of a squared attention whose values are as wide as its keys. */
struct attention {
    size_t batch, nheads, seqlen, dim;
    /* Steps between neighbours along batch, nheads and seqlen; q, k, v and out have dim elements for each step. */
    size_t batch_stride, head_stride, time_stride;
    const float *q, *k, *v, *log_decay;
    float scale_squared;
};

static inline float softplus(float v) { return v > 20.0f ? v : log1pf(expf(v)); }

static inline float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }
