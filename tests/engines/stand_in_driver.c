/* A stand-in for libcuda.so.1 on the CPU: as much of the driver's interface as the device layer uses, in host memory and
 * at once instead of queued. It shows that both backends call the driver as cuda.h says, on a machine without a GPU; it
 * says nothing about a GPU. Streams record copies while they are captured; graphs replay them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MEMORY ((size_t)1 << 31)
#define CHECK(condition, code) do { if (!(condition)) return code; } while (0)
enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201, INVALID_HANDLE = 400,
       CAPTURE_INVALID = 901 };

typedef struct copy { void *to; const void *from; size_t bytes; unsigned turns; struct copy *next; } copy;
typedef struct { int magic; int capturing; copy *first, **last; } stream;
typedef struct { int magic; double ms; int reached; } event;
typedef struct { int magic; copy *first; } graph;

static size_t used;
static int alive, context, retained;
static __thread int depth;

/* Streams, events, graphs and blocks of memory that were made and not freed, and contexts not released or not popped. */
int stand_in_alive(void) { return alive + retained + depth; }

static int bad(const void *handle, int magic) { return handle == NULL || *(const int *)handle != magic; }
#define IN_CONTEXT CHECK(depth > 0 && retained > 0, INVALID_CONTEXT)

int cuInit(unsigned flags) { return getenv("STAND_IN_NO_DEVICE") ? NO_DEVICE : flags ? INVALID_VALUE : 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuGetErrorName(int code, const char **text) {
    *text = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : code == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_OTHER";
    return 0;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == OUT_OF_MEMORY ? "out of memory" : code == NO_DEVICE ? "no CUDA-capable device is detected" : "other error";
    return 0;
}
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { CHECK(ordinal == 0, 101); *device = 0; return 0; }
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "Stand-in"); return device; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = MEMORY; return device; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 6 : 0;
    return device;
}
int cuDevicePrimaryCtxRetain(void **ctx, int device) { retained++; *ctx = &context; return device; }
int cuDevicePrimaryCtxRelease_v2(int device) { CHECK(retained > 0, INVALID_CONTEXT); retained--; return device; }
int cuCtxPushCurrent_v2(void *ctx) { CHECK(ctx == &context && retained > 0, INVALID_CONTEXT); depth++; return 0; }
int cuCtxPopCurrent_v2(void **ctx) { CHECK(depth > 0, INVALID_CONTEXT); depth--; if (ctx) *ctx = &context; return 0; }
int cuCtxGetCurrent(void **ctx) { *ctx = depth ? &context : NULL; return 0; }
int cuCtxGetDevice(int *device) { IN_CONTEXT; *device = 0; return 0; }
int cuCtxSynchronize(void) { IN_CONTEXT; return 0; }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) { IN_CONTEXT; *free_bytes = MEMORY - used; *total = MEMORY; return 0; }

/* Every block carries its size in front, so that freeing gives it back. */
static int take(void **pointer, size_t bytes) {
    CHECK(bytes > 0, INVALID_VALUE);
    CHECK(bytes <= MEMORY - used, OUT_OF_MEMORY);
    char *block = malloc(bytes + 64);
    CHECK(block, OUT_OF_MEMORY);
    *(size_t *)block = bytes;
    used += bytes;
    alive++;
    *pointer = block + 64;
    return 0;
}
static int give(void *pointer) {
    CHECK(pointer, INVALID_VALUE);
    char *block = (char *)pointer - 64;
    used -= *(size_t *)block;
    alive--;
    free(block);
    return 0;
}
int cuMemAlloc_v2(uint64_t *pointer, size_t bytes) { IN_CONTEXT; return take((void **)pointer, bytes); }
int cuMemFree_v2(uint64_t pointer) { IN_CONTEXT; return give((void *)pointer); }
int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) { (void)flags; IN_CONTEXT; return take(pointer, bytes); }
int cuMemAllocHost_v2(void **pointer, size_t bytes) { IN_CONTEXT; return take(pointer, bytes); }
int cuMemFreeHost(void *pointer) { IN_CONTEXT; return give(pointer); }

int cuStreamCreate(stream **made, unsigned flags) {
    IN_CONTEXT;
    CHECK(flags == 1, INVALID_VALUE); /* only non-blocking ones are wanted */
    *made = calloc(1, sizeof(stream));
    (*made)->magic = 71;
    alive++;
    return 0;
}
int cuStreamDestroy_v2(stream *s) { IN_CONTEXT; CHECK(!bad(s, 71), INVALID_HANDLE); s->magic = 0; alive--; free(s); return 0; }
int cuStreamSynchronize(stream *s) {
    IN_CONTEXT;
    CHECK(!bad(s, 71), INVALID_HANDLE);
    CHECK(!s->capturing, CAPTURE_INVALID);
    return 0;
}
int cuEventCreate(event **made, unsigned flags) {
    IN_CONTEXT;
    CHECK(flags == 0, INVALID_VALUE);
    *made = calloc(1, sizeof(event));
    (*made)->magic = 72;
    alive++;
    return 0;
}
int cuEventDestroy_v2(event *e) { IN_CONTEXT; CHECK(!bad(e, 72), INVALID_HANDLE); e->magic = 0; alive--; free(e); return 0; }
int cuEventRecord(event *e, stream *s) {
    struct timespec now;
    IN_CONTEXT;
    CHECK(!bad(e, 72) && !bad(s, 71), INVALID_HANDLE);
    clock_gettime(CLOCK_MONOTONIC, &now);
    e->ms = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
    e->reached = 1;
    return 0;
}
int cuEventElapsedTime_v2(float *ms, event *first, event *second) {
    CHECK(!bad(first, 72) && !bad(second, 72) && first->reached && second->reached, INVALID_HANDLE);
    *ms = (float)(second->ms - first->ms);
    return 0;
}
int cuEventElapsedTime(float *ms, event *first, event *second) { return cuEventElapsedTime_v2(ms, first, second); }

/* A copy, or the one kernel there is: out[i] = in[0] + turns (benchmarks/gpu_check/device_part.py). */
static void perform(const copy *one) {
    if (!one->turns) { memcpy(one->to, one->from, one->bytes); return; }
    for (size_t i = 0; i < one->bytes / 4; i++) ((float *)one->to)[i] = *(const float *)one->from + one->turns;
}
static int queue(copy what, stream *s) {
    IN_CONTEXT;
    CHECK(!bad(s, 71), INVALID_HANDLE);
    if (!s->capturing) { perform(&what); return 0; }
    copy *one = calloc(1, sizeof(copy));
    *one = what;
    *s->last = one;
    s->last = &one->next;
    return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, stream *s) {
    return queue((copy){(void *)to, from, bytes, 0, NULL}, s);
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, stream *s) {
    return queue((copy){to, (void *)from, bytes, 0, NULL}, s);
}

int cuModuleLoadData(void **module, const char *image) {
    IN_CONTEXT;
    CHECK(strstr(image, ".entry count_up("), INVALID_VALUE);
    *module = &context;
    return 0;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    CHECK(module == &context && strcmp(name, "count_up") == 0, INVALID_HANDLE);
    *function = &retained;
    return 0;
}
int cuModuleUnload(void *module) { IN_CONTEXT; CHECK(module == &context, INVALID_HANDLE); return 0; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, stream *s, void **parameters, void **extra) {
    CHECK(function == &retained && gy == 1 && gz == 1 && by == 1 && bz == 1 && !shared && !extra, INVALID_VALUE);
    uint32_t size = *(uint32_t *)parameters[2];
    CHECK(size <= gx * bx && size + bx > gx * bx, INVALID_VALUE);
    return queue((copy){*(void **)parameters[1], *(void **)parameters[0], 4 * size, *(uint32_t *)parameters[3], NULL}, s);
}

int cuStreamBeginCapture_v2(stream *s, int mode) {
    IN_CONTEXT;
    CHECK(!bad(s, 71), INVALID_HANDLE);
    CHECK(mode == 1 && !s->capturing, INVALID_VALUE);
    s->capturing = 1; s->first = NULL; s->last = &s->first;
    return 0;
}
int cuStreamEndCapture(stream *s, graph **made) {
    CHECK(!bad(s, 71) && s->capturing, INVALID_HANDLE);
    s->capturing = 0;
    *made = calloc(1, sizeof(graph));
    (*made)->magic = 73;
    alive++;
    (*made)->first = s->first;
    return 0;
}
int cuGraphInstantiateWithFlags(graph **made, graph *from, unsigned long long flags) {
    CHECK(!bad(from, 73) && flags == 0, INVALID_VALUE);
    *made = calloc(1, sizeof(graph));
    (*made)->magic = 74;
    alive++;
    (*made)->first = from->first;
    return 0;
}
int cuGraphDestroy(graph *g) { CHECK(!bad(g, 73), INVALID_HANDLE); g->magic = 0; alive--; free(g); return 0; }
int cuGraphExecDestroy(graph *g) { CHECK(!bad(g, 74), INVALID_HANDLE); g->magic = 0; alive--; free(g); return 0; }
int cuGraphLaunch(graph *g, stream *s) {
    IN_CONTEXT;
    CHECK(!bad(g, 74) && !bad(s, 71), INVALID_HANDLE);
    for (copy *one = g->first; one; one = one->next) perform(one);
    return 0;
}

/* How cuda-python finds the functions: by name, in the newest form that there is. */
int cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status) {
    static const char *forms[] = {"%s_v2", "%s"};
    char full[128];
    (void)version; (void)flags;
    *found = NULL;
    for (int i = 0; i < 2 && *found == NULL; i++) {
        snprintf(full, sizeof full, forms[i], name);
        *found = dlsym(RTLD_DEFAULT, full);
        if (*found == NULL) {
            void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
            if (self) *found = dlsym(self, full);
        }
    }
    if (status) *status = *found ? 0 : 1;
    return *found ? 0 : 500;
}
int cuGetProcAddress(const char *name, void **found, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, found, version, flags, NULL);
}
