/* A CUDA driver without a device, for tests of the calls that src/gpu/driver.rs makes: it answers as FAKE_CUDA says
   (version=, devices=, capability=, fail=<function>:<code>), and writes every call that matters to standard output. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long setting(const char *name, long otherwise) {
    const char *settings = getenv("FAKE_CUDA");
    const char *found = settings ? strstr(settings, name) : NULL;
    return found ? strtol(found + strlen(name), NULL, 10) : otherwise;
}

/* The code that FAKE_CUDA wants of this function: fail=cuLaunchKernel:700. */
static int answer(const char *function) {
    const char *settings = getenv("FAKE_CUDA");
    const char *found = settings ? strstr(settings, "fail=") : NULL;
    size_t length = strlen(function);
    if (found && strncmp(found + 5, function, length) == 0 && found[5 + length] == ':') {
        return (int)strtol(found + 6 + length, NULL, 10);
    }
    return 0;
}

static int depth = 0;

static int say(const char *function, int code) {
    printf("call %s %d depth %d\n", function, code, depth);
    fflush(stdout);
    return code;
}

int cuDriverGetVersion(int *version) { *version = (int)setting("version=", 12040); return 0; }
int cuInit(unsigned flags) { (void)flags; return answer("cuInit"); }
int cuDeviceGetCount(int *count) { *count = (int)setting("devices=", 2); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + 10; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    long capability = setting("capability=", 90);
    (void)device;
    *value = attribute == 75 ? (int)(capability / 10) : attribute == 76 ? (int)(capability % 10) : -1;
    return 0;
}
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "Fake %d", device); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = (size_t)7 << 30; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = (void *)(uintptr_t)(0xc0 + device);
    return say("cuDevicePrimaryCtxRetain", answer("cuDevicePrimaryCtxRetain"));
}
int cuCtxPushCurrent_v2(void *context) { (void)context; depth++; return 0; }
int cuCtxPopCurrent_v2(void **context) {
    *context = NULL;
    printf("depth at the end %d\n", --depth);
    return 0;
}
int cuModuleLoadData(void **module, const void *image) {
    *module = (void *)image;
    if (!strstr(image, ".version")) {
        return say("cuModuleLoadData", 218);
    }
    *module = (void *)0x30;
    return say("cuModuleLoadData", answer("cuModuleLoadData"));
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = (void *)0x40;
    printf("function %s of %p\n", name, module);
    return say("cuModuleGetFunction", answer("cuModuleGetFunction"));
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
    printf("attribute %d of %p is %d\n", attribute, function, value);
    return say("cuFuncSetAttribute", answer("cuFuncSetAttribute"));
}
int cuMemAllocAsync(uint64_t *address, size_t bytes, void *stream) {
    *address = 0x7700000000;
    printf("bytes %zu stream %p\n", bytes, stream);
    return say("cuMemAllocAsync", answer("cuMemAllocAsync"));
}
int cuMemFreeAsync(uint64_t address, void *stream) {
    printf("free %llx stream %p\n", (unsigned long long)address, stream);
    return say("cuMemFreeAsync", 0);
}
int cuMemFree_v2(uint64_t address) {
    printf("free %lx\n", (unsigned long)address);
    return say("cuMemFree", answer("cuMemFree"));
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    (void)from;
    printf("copy to %#lx bytes %zu stream %p\n", (unsigned long)to, bytes, stream);
    return say("cuMemcpyHtoDAsync", answer("cuMemcpyHtoDAsync"));
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    memset(to, 0, bytes);
    printf("copy from %#lx bytes %zu stream %p\n", (unsigned long)from, bytes, stream);
    return say("cuMemcpyDtoHAsync", answer("cuMemcpyDtoHAsync"));
}
int cuCtxSynchronize(void) { return say("cuCtxSynchronize", answer("cuCtxSynchronize")); }
int cuPointerGetAttribute(void *data, int attribute, uint64_t address) {
    (void)data, (void)attribute, (void)address;
    return answer("cuPointerGetAttribute");
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    printf("copy from %#lx to %#lx bytes %zu stream %p\n", (unsigned long)from, (unsigned long)to, bytes, stream);
    return say("cuMemcpyDtoDAsync", answer("cuMemcpyDtoDAsync"));
}
int cuEventCreate(void **event, unsigned flags) {
    static uintptr_t next = 0xe0;
    *event = (void *)next++;
    printf("event %p flags %u\n", *event, flags);
    return say("cuEventCreate", answer("cuEventCreate"));
}
int cuEventDestroy_v2(void *event) { printf("destroyed %p\n", event); return say("cuEventDestroy", 0); }
int cuEventRecord(void *event, void *stream) {
    printf("record %p stream %p\n", event, stream);
    return say("cuEventRecord", answer("cuEventRecord"));
}
int cuEventSynchronize(void *event) {
    printf("wait %p\n", event);
    return say("cuEventSynchronize", answer("cuEventSynchronize"));
}
int cuEventElapsedTime(float *milliseconds, void *start, void *end) {
    printf("between %p and %p\n", start, end);
    *milliseconds = 2.5f;
    return say("cuEventElapsedTime", answer("cuEventElapsedTime"));
}
int cuStreamSynchronize(void *stream) { (void)stream; return say("cuStreamSynchronize", answer("cuStreamSynchronize")); }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **params, void **extra) {
    const uint64_t *words = params[0];
    printf("launch %p grid %u %u %u block %u %u %u shared %u stream %p extra %p first %llx second %lld\n", function, gx, gy,
           gz, bx, by, bz, shared, stream, (void *)extra, (unsigned long long)words[0], (long long)words[1]);
    return say("cuLaunchKernel", answer("cuLaunchKernel"));
}
int cuGetErrorName(int code, const char **name) {
    *name = code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : code == 222 ? "CUDA_ERROR_UNSUPPORTED_PTX_VERSION" : "CUDA_ERROR_FAKE";
    return 0;
}
int cuGetErrorString(int code, const char **text) { (void)code; *text = "as the test asked"; return 0; }
