// The operators of ssm-kernels. Made from c-api/src by `cargo xtask header`.
// Every function may be called from any thread; it returns SSM_OK, or what went wrong.

#ifndef SSM_KERNELS_H
#define SSM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The call was carried out, or enqueued.
#define SSM_OK 0

// An argument is wrong: the message names operator, argument, what was expected and what was got.
#define SSM_INVALID 1

// Memory could not be allocated, or the workspace given is too small.
#define SSM_OUT_OF_MEMORY 2

// There is no such device, no driver, or the driver refused.
#define SSM_DEVICE 3

// A bug of the library. Outputs may have been written in part.
#define SSM_BUG 4

// Nothing is wrong with the arguments, but the device, the kernels or this build cannot do it: the message says what would do.
#define SSM_UNSUPPORTED 5

// Where and with what memory a call runs. A null pointer in its place stands for all zeros.
typedef struct SsmOn {
  // sizeof(SsmOn).
  size_t size;
  // CUDA: the `CUstream` (or `cudaStream_t`) that the call is enqueued on, of the primary context of the device of x; null
  // is the default stream. Not used for host memory.
  void *stream;
  // Memory on the device of x, aligned to 256 bytes, for what `..._plan` says, or null: then the call allocates (and,
  // on a device, frees in stream order). Needs no initialisation; apart from all tensors of the call; not shared by calls that may run at the same time.
  void *workspace;
  // Bytes of it.
  size_t workspace_bytes;
  // Host memory: run on the calling thread alone, and not on all cores.
  bool single_thread;
  // Zeros, for what later versions add.
  uint8_t reserved[7];
} SsmOn;

// Where memory lies: DLPack's `DLDevice`.
typedef struct SsmDevice {
  // 1: host; 2: CUDA device; 3: host, pinned.
  int32_t device_type;
  // Ordinal of a CUDA device.
  int32_t device_id;
} SsmDevice;

// The type of elements: DLPack's `DLDataType`.
typedef struct SsmDtype {
  // 0: signed integer; 1: unsigned integer; 2: IEEE float; 4: bfloat.
  uint8_t code;
  // Bits of an element.
  uint8_t bits;
  // 1.
  uint16_t lanes;
} SsmDtype;

// A tensor: DLPack's `DLTensor` (of all versions so far), so that a pointer to one of these may be cast.
typedef struct SsmTensor {
  // Start of the memory, on its device.
  void *data;
  // Where it lies.
  struct SsmDevice device;
  // Number of dimensions.
  int32_t ndim;
  // Of the elements.
  struct SsmDtype dtype;
  // Extents, `ndim` of them.
  int64_t *shape;
  // Distances between neighbours along each dimension, in elements, not negative; null: dense, last dimension fastest.
  int64_t *strides;
  // From `data` to the first element.
  uint64_t byte_offset;
} SsmTensor;

// The arguments of a causal convolution: each step of out is bias plus the taps times the last steps of x, the last tap
// times the step itself; silu of it only if asked. Null for what is absent.
typedef struct SsmCausalConv1d {
  // sizeof(SsmCausalConv1d).
  size_t size;
  // (batch, dim, seqlen) in f32, f16 or bf16.
  const struct SsmTensor *x;
  // (dim, width), width from 1 to 16, in a dtype of its own of the three.
  const struct SsmTensor *weight;
  // (dim) in the dtype of weight, or null.
  const struct SsmTensor *bias;
  // (batch, dim, width - 1) in the dtype of x, or null; with packed sequences a row for each.
  const struct SsmTensor *initial_state;
  // Packed sequences: where each begins, and the total, (nseqs + 1) i32 in host memory; batch is then 1. Or null.
  const struct SsmTensor *cu_seqlens;
  // CUDA, with cu_seqlens: a copy of it on the device. On the host it is not read.
  const struct SsmTensor *cu_seqlens_on_device;
  // Whether the output goes through silu.
  bool silu;
  // Zeros, for what later versions add.
  uint8_t reserved[7];
} SsmCausalConv1d;

// What a causal convolution writes; null for what is not wanted.
typedef struct SsmCausalConv1dOutputs {
  // sizeof(SsmCausalConv1dOutputs).
  size_t size;
  // As x.
  const struct SsmTensor *out;
  // The last width - 1 steps of x, (batch, dim, width - 1), or null; with packed sequences a row for each.
  const struct SsmTensor *final_state;
} SsmCausalConv1dOutputs;

// Gradients of the loss with respect to what forward writes: one at least.
typedef struct SsmCausalConv1dUpstream {
  // sizeof(SsmCausalConv1dUpstream).
  size_t size;
  // As x, or null.
  const struct SsmTensor *dout;
  // As final_state, or null.
  const struct SsmTensor *dfinal_state;
} SsmCausalConv1dUpstream;

// Gradients that backward writes, each of the shape and dtype of its tensor; null for what is not wanted.
typedef struct SsmCausalConv1dGradients {
  // sizeof(SsmCausalConv1dGradients).
  size_t size;
  // Of x.
  const struct SsmTensor *dx;
  // Of weight.
  const struct SsmTensor *dweight;
  // Of bias.
  const struct SsmTensor *dbias;
  // Of initial_state, given or not.
  const struct SsmTensor *dinitial_state;
} SsmCausalConv1dGradients;

// The arguments of a causal convolution over a few steps, from a state that is updated. Null for what is absent.
typedef struct SsmCausalConv1dUpdate {
  // sizeof(SsmCausalConv1dUpdate).
  size_t size;
  // (batch, dim, seqlen) in f32, f16 or bf16.
  const struct SsmTensor *x;
  // (dim, width), width from 1 to 16, in a dtype of its own of the three.
  const struct SsmTensor *weight;
  // (dim) in the dtype of weight, or null.
  const struct SsmTensor *bias;
  // Steps that each row has seen, (batch) i32: the state is a ring. Null: the state is shifted.
  const struct SsmTensor *cache_seqlens;
  // The slot of each row, (batch) i32, negative for padding; no slot twice. Null: slot b for row b.
  const struct SsmTensor *state_indices;
  // Whether the output goes through silu.
  bool silu;
  // Zeros, for what later versions add.
  uint8_t reserved[7];
} SsmCausalConv1dUpdate;

// What that writes.
typedef struct SsmCausalConv1dUpdateOutputs {
  // sizeof(SsmCausalConv1dUpdateOutputs).
  size_t size;
  // As x.
  const struct SsmTensor *out;
  // (slots, dim, state_len) in the dtype of x, state_len at least width - 1: read, and then written.
  const struct SsmTensor *conv_state;
  // CUDA: a u32, (1), which is set to 1 if an index lies beyond the slots; or null.
  const struct SsmTensor *out_of_range;
} SsmCausalConv1dUpdateOutputs;

// The arguments of a selective scan: with `delta = clamp(softplus(dt + dt_bias))`,
// `h = exp(delta A) h + delta B x` and `out = (C h + D x) silu(z)` from step to step. Null for what is absent.
typedef struct SsmSelectiveScan {
  // sizeof(SsmSelectiveScan).
  size_t size;
  // (batch, dim, seqlen) in f32, f16 or bf16.
  const struct SsmTensor *x;
  // As x: the raw step.
  const struct SsmTensor *dt;
  // (dim, dstate) in f32, usually negative.
  const struct SsmTensor *A;
  // (batch, ngroups, dstate, seqlen) in the dtype of x, or constant: (dim, dstate) in f32.
  const struct SsmTensor *B;
  // As B may be.
  const struct SsmTensor *C;
  // (dim) in f32, or null.
  const struct SsmTensor *D;
  // The gate, as x, or null.
  const struct SsmTensor *z;
  // (dim) in f32, or null.
  const struct SsmTensor *dt_bias;
  // (batch, dim, dstate) in f32, or null; with packed sequences a row for each.
  const struct SsmTensor *initial_state;
  // Packed sequences: where each begins, and the total, (nseqs + 1) i32 in host memory; batch is then 1. Or null.
  const struct SsmTensor *cu_seqlens;
  // CUDA, with cu_seqlens: a copy of it on the device. On the host it is not read.
  const struct SsmTensor *cu_seqlens_on_device;
  // Parts that each sequence is cut into along seqlen; 0: as the library thinks best.
  size_t split;
  // The clamp.
  float dt_min;
  // The clamp.
  float dt_max;
  // Whether delta goes through softplus.
  bool dt_softplus;
  // Whether delta is clamped to dt_min and dt_max, after softplus.
  bool dt_limit;
  // From the last step to the first.
  bool reverse;
  // Zeros, for what later versions add.
  uint8_t reserved[5];
} SsmSelectiveScan;

// What a selective scan writes; null for what is not wanted.
typedef struct SsmSelectiveScanOutputs {
  // sizeof(SsmSelectiveScanOutputs).
  size_t size;
  // As x.
  const struct SsmTensor *out;
  // (batch, dim, dstate) in f32; with packed sequences a row for each.
  const struct SsmTensor *final_state;
  // (nchunks, dim, dstate) in f32: the state after each full chunk_every steps of each sequence.
  const struct SsmTensor *chunk_states;
  // (batch, dim) in f32: the sum of delta over each sequence.
  const struct SsmTensor *delta_sum;
  // For backward: the checkpoint_every of ssm_selective_scan_plan.
  size_t chunk_every;
} SsmSelectiveScanOutputs;

// Gradients of the loss with respect to what forward writes: one at least.
typedef struct SsmSelectiveScanUpstream {
  // sizeof(SsmSelectiveScanUpstream).
  size_t size;
  // As x, or null.
  const struct SsmTensor *dout;
  // (batch, dim, dstate) in f32, or null.
  const struct SsmTensor *dfinal_state;
  // The chunk_states that forward wrote every checkpoint_every steps, or null: they are then computed again.
  const struct SsmTensor *checkpoints;
  // The checkpoint_every of ssm_selective_scan_plan.
  size_t checkpoint_every;
} SsmSelectiveScanUpstream;

// Gradients that backward writes, each of the shape and dtype of its tensor; null for what is not wanted.
typedef struct SsmSelectiveScanGradients {
  // sizeof(SsmSelectiveScanGradients).
  size_t size;
  // Of x.
  const struct SsmTensor *dx;
  // Of dt.
  const struct SsmTensor *ddt;
  // Of A.
  const struct SsmTensor *dA;
  // Of B.
  const struct SsmTensor *dB;
  // Of C.
  const struct SsmTensor *dC;
  // Of D.
  const struct SsmTensor *dD;
  // Of z.
  const struct SsmTensor *dz;
  // Of dt_bias.
  const struct SsmTensor *ddt_bias;
  // Of initial_state, given or not.
  const struct SsmTensor *dinitial_state;
} SsmSelectiveScanGradients;

// The arguments of a state update, which advances states in place by one token or a few. Channels, or (`heads`) heads of
// several channels each; with tokens if x has a dimension of them. Null for what is absent.
typedef struct SsmStateUpdate {
  // sizeof(SsmStateUpdate).
  size_t size;
  // Channels: (batch, dim) or (batch, seqlen, dim); heads: (batch, nheads, headdim) or (batch, seqlen, nheads, headdim). In
  // f32, f16 or bf16.
  const struct SsmTensor *x;
  // As x; of heads also without headdim.
  const struct SsmTensor *dt;
  // f32. Channels: (dim, dstate); heads: (nheads), (nheads, headdim) or (nheads, headdim, dstate).
  const struct SsmTensor *A;
  // (batch, dstate), or (batch, ngroups, dstate); with seqlen behind batch if x has it. In the dtype of x.
  const struct SsmTensor *B;
  // As B may be.
  const struct SsmTensor *C;
  // f32. Channels: (dim); heads: (nheads) or (nheads, headdim). Or null.
  const struct SsmTensor *D;
  // As x, or null.
  const struct SsmTensor *z;
  // As D may be, or null.
  const struct SsmTensor *dt_bias;
  // The row of the cache for each row of the batch, (batch) i32, negative for padding; no row twice. Null: row b for row b.
  const struct SsmTensor *state_indices;
  // The clamp.
  float dt_min;
  // The clamp.
  float dt_max;
  // x is of heads.
  bool heads;
  // Whether delta goes through softplus.
  bool dt_softplus;
  // Whether delta is clamped to dt_min and dt_max, after softplus.
  bool dt_limit;
  // Zeros, for what later versions add.
  uint8_t reserved[5];
} SsmStateUpdate;

// What a state update writes; null for what is not wanted.
typedef struct SsmStateUpdateOutputs {
  // sizeof(SsmStateUpdateOutputs).
  size_t size;
  // The cache, (slots, dim, dstate) or (slots, nheads, headdim, dstate) in f32, f16 or bf16: read, and then written.
  const struct SsmTensor *state;
  // As x.
  const struct SsmTensor *out;
  // (batch seqlen, ...) as state: the state after each token; or null.
  const struct SsmTensor *token_states;
  // CUDA: a u32, (1): 1 + the last row of the batch whose index lies beyond the cache, if that is more than what stands
  // there; or null.
  const struct SsmTensor *index_flag;
} SsmStateUpdateOutputs;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library, "major.minor.patch".
const char *ssm_version(void);

// Runs a causal convolution forward, or enqueues it.
//
// # Safety
// Structs and tensors are as their fields say, until the work is done.
int ssm_causal_conv1d_forward(const struct SsmOn *on,
                              const struct SsmCausalConv1d *conv,
                              const struct SsmCausalConv1dOutputs *outputs);

// Runs a causal convolution backward, or enqueues it.
//
// # Safety
// As for ssm_causal_conv1d_forward.
int ssm_causal_conv1d_backward(const struct SsmOn *on,
                               const struct SsmCausalConv1d *conv,
                               const struct SsmCausalConv1dUpstream *upstream,
                               const struct SsmCausalConv1dGradients *gradients);

// Runs a few steps of a causal convolution from a state that is updated, or enqueues them.
//
// # Safety
// As for ssm_causal_conv1d_forward; on a device, no slot that is not negative stands twice in state_indices.
int ssm_causal_conv1d_update(const struct SsmOn *on,
                             const struct SsmCausalConv1dUpdate *update,
                             const struct SsmCausalConv1dUpdateOutputs *outputs);

// Bytes of workspace that a causal convolution needs in either direction. Null for what is not wanted. Reads no tensor's
// elements but cu_seqlens.
//
// # Safety
// As for ssm_causal_conv1d_forward; the pointers are null or those of numbers to write.
int ssm_causal_conv1d_plan(const struct SsmOn *on,
                           const struct SsmCausalConv1d *conv,
                           size_t *forward_bytes,
                           size_t *backward_bytes);

// Runs a selective scan forward, or enqueues it.
//
// # Safety
// Structs and tensors are as their fields say, until the work is done.
int ssm_selective_scan_forward(const struct SsmOn *on,
                               const struct SsmSelectiveScan *scan,
                               const struct SsmSelectiveScanOutputs *outputs);

// Runs a selective scan backward, or enqueues it.
//
// # Safety
// As for ssm_selective_scan_forward.
int ssm_selective_scan_backward(const struct SsmOn *on,
                                const struct SsmSelectiveScan *scan,
                                const struct SsmSelectiveScanUpstream *upstream,
                                const struct SsmSelectiveScanGradients *gradients);

// Bytes of workspace that a selective scan needs in either direction, and the steps between the states that forward saves
// for backward. Null for what is not wanted. Reads no tensor's elements but cu_seqlens.
//
// # Safety
// As for ssm_selective_scan_forward; the pointers are null or those of numbers to write.
int ssm_selective_scan_plan(const struct SsmOn *on,
                            const struct SsmSelectiveScan *scan,
                            size_t *forward_bytes,
                            size_t *backward_bytes,
                            size_t *checkpoint_every);

// Why the last call of this thread that failed did so: a text that ends in NUL, and lives until the next call of this
// thread that fails.
const char *ssm_error_message(void);

// Advances states by one token or a few, or enqueues that.
//
// # Safety
// Structs and tensors are as their fields say, until the work is done; on a device, no row of the cache that is not negative
// stands twice in state_indices.
int ssm_state_update(const struct SsmOn *on,
                     const struct SsmStateUpdate *update,
                     const struct SsmStateUpdateOutputs *outputs);

// Bytes of workspace that a state update needs. Reads no tensor's elements.
//
// # Safety
// As for ssm_state_update; `bytes` is that of a number to write.
int ssm_state_update_plan(const struct SsmOn *on,
                          const struct SsmStateUpdate *update,
                          const struct SsmStateUpdateOutputs *outputs,
                          size_t *bytes);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SSM_KERNELS_H */
