/* Squared attention in the two ways in which it is written: by pairs of steps, and as the recurrence of its state. */
#include "baseline.h"

/* All pairs of steps, the decay between them as the sum of the logarithms that lie between. */
void NAME(attention_pairs)(const struct attention *a, float *restrict out) {
    for (size_t b = 0; b < a->batch; b++) {
        for (size_t h = 0; h < a->nheads; h++) {
            size_t head = b * a->batch_stride + h * a->head_stride;
            for (size_t t = 0; t < a->seqlen; t++) {
                size_t at = (head + t * a->time_stride) * a->dim;
                float between = 0.0f, norm = 0.0f;
                for (size_t p = 0; p < a->dim; p++) out[at + p] = 0.0f;
                for (size_t j = t + 1; j-- > 0;) {
                    size_t step = head + j * a->time_stride, row = step * a->dim;
                    float product = 0.0f;
                    for (size_t i = 0; i < a->dim; i++) product += a->q[at + i] * a->k[row + i];
                    float weight = a->scale_squared * product * product * expf(between);
                    norm += weight;
                    for (size_t p = 0; p < a->dim; p++) out[at + p] += weight * a->v[row + p];
                    between += a->log_decay[step];
                }
                for (size_t p = 0; p < a->dim; p++) out[at + p] = norm == 0.0f ? 0.0f : out[at + p] / norm;
            }
        }
    }
}

/* One head as the recurrence, in place in its state, (features, dim), and norm, (features). */
static void steps(const struct attention *a, size_t head, float *restrict state, float *restrict norms,
                  float *restrict out) {
    for (size_t t = 0; t < a->seqlen; t++) {
        size_t step = head + t * a->time_stride, at = step * a->dim, f = 0;
        float decay = expf(a->log_decay[step]), norm = 0.0f;
        for (size_t p = 0; p < a->dim; p++) out[at + p] = 0.0f;
        for (size_t i = 0; i < a->dim; i++) {
            for (size_t j = i; j < a->dim; j++, f++) {
                float c = i == j ? 1.0f : 1.41421356f;
                float key = a->scale_squared * c * a->k[at + i] * a->k[at + j];
                float query = c * a->q[at + i] * a->q[at + j];
                float *restrict row = state + f * a->dim;
                norms[f] = decay * norms[f] + key;
                norm += query * norms[f];
                for (size_t p = 0; p < a->dim; p++) {
                    row[p] = decay * row[p] + key * a->v[at + p];
                    out[at + p] += query * row[p];
                }
            }
        }
        for (size_t p = 0; p < a->dim; p++) out[at + p] = norm == 0.0f ? 0.0f : out[at + p] / norm;
    }
}

/* state: that of one head, and its norm behind it. */
void NAME(attention_states)(const struct attention *a, float *restrict out, float *restrict state) {
    size_t features = a->dim * (a->dim + 1) / 2;
    for (size_t b = 0; b < a->batch; b++) {
        for (size_t h = 0; h < a->nheads; h++) {
            for (size_t i = 0; i < features * (a->dim + 1); i++) state[i] = 0.0f;
            steps(a, b * a->batch_stride + h * a->head_stride, state, state + features * a->dim, out);
        }
    }
}

/* states: (batch, nheads, features, dim); norms: (batch, nheads, features). */
void NAME(attention_update)(const struct attention *a, float *restrict out, float *restrict states,
                            float *restrict norms) {
    size_t features = a->dim * (a->dim + 1) / 2;
    for (size_t b = 0; b < a->batch; b++) {
        for (size_t h = 0; h < a->nheads; h++) {
            size_t row = (b * a->nheads + h) * features;
            steps(a, b * a->batch_stride + h * a->head_stride, states + row * a->dim, norms + row, out);
        }
    }
}
