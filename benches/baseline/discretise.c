/* Zero-order hold, element by element: A_bar = exp(delta A), B_bar = (exp(delta A) - 1) / A B. */
#include "baseline.h"

/* The outputs' last dimension is dstate, without gaps; the others lie as those of dt do. */
void NAME(zoh_forward)(const struct zoh *s, float *restrict A_bar, float *restrict B_bar) {
    for (size_t b = 0; b < s->batch; b++) {
        for (size_t d = 0; d < s->dim; d++) {
            const float *A = s->A + d * s->dstate;
            for (size_t t = 0; t < s->seqlen; t++) {
                size_t at = b * s->batch_stride + d * s->dim_stride + t * s->time_stride;
                size_t row = b * s->rows_batch_stride + t * s->rows_time_stride;
                float delta = softplus(s->dt[at] + s->dt_bias[d]);
                for (size_t n = 0; n < s->dstate; n++) {
                    float w = delta * A[n], B = s->B[row + n * s->rows_state_stride];
                    float phi = w == 0.0f ? 1.0f : expm1f(w) / w;
                    A_bar[at * s->dstate + n] = expf(w);
                    B_bar[at * s->dstate + n] = delta * phi * B;
                }
            }
        }
    }
}
