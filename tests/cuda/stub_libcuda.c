/* A libcuda.so.1 without a GPU: device memory is memory of the host, and launches are written down.
 *
 * It is as late as a GPU may be: copies and launches are only done when somebody waits for them. It refuses what
 * CUDA refuses: calls of threads without a context, addresses that are not allocated, waiting while a stream is
 * recorded, more shared memory than was allowed. Kernels are named by what stands in their image,
 * "stub" SIZES "\0.text." NAME, with a digit for the size of each argument.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_CONTEXT = 201,
       NOT_READY = 600, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };
enum { COPY, FILL, LAUNCH, MARK };

typedef struct { char name[64], sizes[32]; int allowed; } Function;
typedef struct { int done; } Event;
typedef struct { int kind; char *to; const char *from; size_t size; int byte; char *text; Event *event; } Work;
typedef struct { Work work[1024]; int count; } List;
typedef struct { int flags; List *recorded; int spoilt; } Stream;
typedef struct { char *address; size_t size; int device; } Range;

/* What a test sets by stub_set. */
static long version = 13000, count = 1, major = 9, minor = 0, pools = 1, ordinal = 0, limit = 1 << 30, late = 1;
static struct { const char *name; long *value; } settings[] = {
    {"version", &version}, {"count", &count}, {"major", &major}, {"minor", &minor}, {"pools", &pools},
    {"ordinal", &ordinal}, {"limit", &limit}, {"late", &late}};
static char failing[64];
static int fail_code, fail_after, started;
static long used, allocations;
static List queue;
static Range ranges[4096];
static int range_count;
static char log_text[1 << 20];
static size_t log_size;
static pid_t owner;
static __thread void *context;

void stub_set(const char *name, long value) {
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (!strcmp(settings[i].name, name)) *settings[i].value = value;
}
void stub_fail(const char *name, int code, int after) {
    snprintf(failing, sizeof failing, "%s", name);
    fail_code = code;
    fail_after = after;
}
const char *stub_log(void) { return log_text; }
void stub_clear(void) { log_text[log_size = 0] = 0; }
long stub_used(void) { return used; }
long stub_allocations(void) { return allocations; }

static void note(const char *format, ...) {
    va_list args;
    va_start(args, format);
    log_size += vsnprintf(log_text + log_size, sizeof log_text - log_size, format, args);
    va_end(args);
}
static int fails(const char *name) {
    if (strcmp(failing, name) || fail_after-- > 0) return OK;
    *failing = 0;
    return fail_code;
}
#define BEGIN(name) do { int status = fails(#name); if (status) return status; } while (0)
#define HERE(name) do { BEGIN(name); \
    if (!started || getpid() != owner) return NOT_INITIALIZED; \
    if (!context) return INVALID_CONTEXT; } while (0)

static Range *range_of(const char *address, size_t size) {
    for (int i = 0; i < range_count; i++)
        if (ranges[i].address <= address && address + size <= ranges[i].address + ranges[i].size) return &ranges[i];
    return NULL;
}
static void add_range(char *address, size_t size, int device) {
    ranges[range_count].address = address;
    ranges[range_count].size = size;
    ranges[range_count++].device = device;
}
static void run(Work *work) {
    if (work->kind == COPY) memcpy(work->to, work->from, work->size);
    if (work->kind == FILL) memset(work->to, work->byte, work->size);
    if (work->kind == LAUNCH) note("%s", work->text);
    if (work->kind == MARK) work->event->done = 1;
}
static void finish(void) {
    for (int i = 0; i < queue.count; i++) run(&queue.work[i]);
    queue.count = 0;
}
static int add(Stream *stream, Work work) {
    List *list = stream && stream->recorded ? stream->recorded : &queue;
    list->work[list->count++] = work;
    if (!late || queue.count == 1024) finish();
    return OK;
}

/* --- the driver ---------------------------------------------------------------------------------------------- */

int cuInit(unsigned flags) {
    BEGIN(cuInit);
    if (!count) return NO_DEVICE;
    started = 1;
    owner = getpid();
    return OK;
}
int cuDriverGetVersion(int *out) { *out = (int)version; return OK; }
int cuDeviceGetCount(int *out) { *out = (int)count; return OK; }
int cuDeviceGet(int *out, int which) { *out = which; return OK; }
int cuDeviceGetName(char *out, int length, int device) { snprintf(out, length, "Stub GPU"); return OK; }
int cuDeviceTotalMem(size_t *out, int device) { *out = limit; return OK; }
int cuDeviceGetAttribute(int *out, int which, int device) {
    *out = which == 75 ? (int)major : which == 76 ? (int)minor : which == 16 ? 132 : which == 115 ? (int)pools : 0;
    return OK;
}
int cuDevicePrimaryCtxRetain(void **out, int device) { *out = &started; return OK; }
int cuCtxSetCurrent(void *given) { BEGIN(cuCtxSetCurrent); context = given; return OK; }
int cuDeviceGetDefaultMemPool(void **out, int device) { *out = &used; return OK; }
int cuMemPoolSetAttribute(void *pool, int which, void *value) { note("keep %lx\n", *(long *)value); return OK; }
int cuMemPoolTrimTo(void *pool, size_t keep) { note("trim\n"); return OK; }
int cuMemGetInfo(size_t *free_bytes, size_t *total) {
    HERE(cuMemGetInfo);
    *free_bytes = limit - used;
    *total = limit;
    return OK;
}
int cuGetErrorString(int code, const char **out) {
    *out = code == NO_DEVICE ? "no CUDA-capable device is detected" : code == 700 ? "an illegal memory access" : "stub";
    return OK;
}

int cuMemAllocAsync(char **out, size_t size, Stream *stream) {
    BEGIN(cuMemAllocAsync);
    if (stream->recorded) return CAPTURE_UNSUPPORTED;
    if (used + (long)size > limit) return OUT_OF_MEMORY;
    if (posix_memalign((void **)out, 512, size)) return OUT_OF_MEMORY;
    memset(*out, 0xEE, size);
    add_range(*out, size, 0);
    used += size;
    allocations++;
    return OK;
}
int cuMemFreeAsync(char *address, Stream *stream) {
    BEGIN(cuMemFreeAsync);
    Range *range = range_of(address, 1);
    if (!range || range->address != address) return INVALID_VALUE;
    used -= range->size;
    *range = ranges[--range_count]; /* what is freed is not used again, so that a late use is seen */
    return OK;
}
int cuMemAllocHost(void **out, size_t size) {
    HERE(cuMemAllocHost);
    *out = calloc(1, size);
    add_range(*out, size, -1);
    return OK;
}
int cuPointerGetAttribute(void *out, int which, char *address) {
    *(int *)out = (int)ordinal;
    return OK;
}

int cuMemcpyHtoDAsync(char *to, const char *from, size_t size, Stream *stream) {
    HERE(cuMemcpyHtoDAsync);
    if (!range_of(to, size)) return INVALID_VALUE;
    return add(stream, (Work){COPY, to, from, size});
}
int cuMemcpyDtoHAsync(char *to, const char *from, size_t size, Stream *stream) {
    HERE(cuMemcpyDtoHAsync);
    if (!range_of(from, size)) return INVALID_VALUE;
    note("to host %zu\n", size);
    add(stream, (Work){COPY, to, from, size});
    if (!range_of(to, size) && !stream->recorded) finish(); /* memory that is not pinned */
    return OK;
}
int cuMemcpyDtoDAsync(char *to, const char *from, size_t size, Stream *stream) {
    HERE(cuMemcpyDtoDAsync);
    if (!range_of(to, size) || !range_of(from, size)) return INVALID_VALUE;
    return add(stream, (Work){COPY, to, from, size});
}
int cuMemsetD8Async(char *to, unsigned char byte, size_t size, Stream *stream) {
    HERE(cuMemsetD8Async);
    if (!range_of(to, size)) return INVALID_VALUE;
    return add(stream, (Work){FILL, to, NULL, size, byte});
}

int cuStreamCreate(Stream **out, unsigned flags) {
    HERE(cuStreamCreate);
    *out = calloc(1, sizeof(Stream));
    (*out)->flags = flags;
    return OK;
}
int cuStreamDestroy(Stream *stream) { free(stream); return OK; }
int cuStreamSynchronize(Stream *stream) {
    HERE(cuStreamSynchronize);
    if (stream->recorded) {
        stream->spoilt = 1;
        return CAPTURE_UNSUPPORTED;
    }
    finish();
    return OK;
}
int cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) { note("wait event\n"); return OK; }
int cuEventCreate(Event **out, unsigned flags) { HERE(cuEventCreate); *out = calloc(1, sizeof(Event)); return OK; }
int cuEventDestroy(Event *event) { return OK; }
int cuEventRecord(Event *event, Stream *stream) {
    HERE(cuEventRecord);
    event->done = 0;
    if ((uintptr_t)stream < 16) { /* the default streams */
        note("record event on %ld\n", (long)(uintptr_t)stream);
        stream = NULL;
    }
    return add(stream, (Work){MARK, .event = event});
}
int cuEventQuery(Event *event) { return event->done ? OK : NOT_READY; }
int cuEventSynchronize(Event *event) { HERE(cuEventSynchronize); finish(); return OK; }

int cuModuleLoadData(const char **out, const char *image) {
    HERE(cuModuleLoadData);
    if (strncmp(image, "stub", 4)) return INVALID_VALUE;
    note("load\n");
    *out = strdup(image + 4);
    return OK;
}
int cuModuleGetFunction(Function **out, const char *sizes, const char *name) {
    BEGIN(cuModuleGetFunction);
    *out = calloc(1, sizeof(Function));
    (*out)->allowed = 48 << 10;
    snprintf((*out)->name, 64, "%s", name);
    snprintf((*out)->sizes, 32, "%s", sizes);
    return OK;
}
int cuFuncSetAttribute(Function *function, int which, int value) {
    HERE(cuFuncSetAttribute);
    if (which != 8 || value > 227 << 10) return INVALID_VALUE;
    function->allowed = value;
    note("allow %s %d\n", function->name, value);
    return OK;
}
int cuLaunchKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, Stream *stream, void **args, void **extra) {
    HERE(cuLaunchKernel);
    if ((int)shared > f->allowed || !gx || !gy || !gz) return INVALID_VALUE;
    char text[1024];
    int size = snprintf(text, sizeof text, "%s grid %u %u %u block %u %u %u shared %u args", f->name, gx, gy, gz, bx,
                        by, bz, shared);
    for (int i = 0; f->sizes[i]; i++) {
        text[size++] = ' ';
        for (int b = 0; b < f->sizes[i] - '0'; b++) size += sprintf(text + size, "%02x", ((unsigned char *)args[i])[b]);
    }
    sprintf(text + size, "\n");
    return add(stream, (Work){LAUNCH, .text = strdup(text)});
}

int cuStreamBeginCapture(Stream *stream, int mode) {
    HERE(cuStreamBeginCapture);
    note("capture mode %d stream flags %d\n", mode, stream->flags);
    stream->recorded = calloc(1, sizeof(List));
    return OK;
}
int cuStreamEndCapture(Stream *stream, List **out) {
    HERE(cuStreamEndCapture);
    *out = stream->spoilt ? NULL : stream->recorded;
    stream->recorded = NULL;
    return stream->spoilt ? CAPTURE_INVALIDATED : OK;
}
int cuGraphInstantiate(List **out, List *graph, unsigned long long flags) {
    HERE(cuGraphInstantiate);
    *out = malloc(sizeof(List));
    **out = *graph;
    return OK;
}
int cuGraphDestroy(List *graph) { note("graph destroyed\n"); return OK; }
int cuGraphExecDestroy(List *graph) { note("executable destroyed\n"); return OK; }
int cuGraphLaunch(List *graph, Stream *stream) {
    HERE(cuGraphLaunch);
    for (int i = 0; i < graph->count; i++) add(stream, graph->work[i]);
    return OK;
}

#define F(name) {#name, (void *)name}
static struct { const char *name; void *function; } functions[] = {
    F(cuInit), F(cuDriverGetVersion), F(cuDeviceGetCount), F(cuDeviceGet), F(cuDeviceGetName), F(cuDeviceTotalMem),
    F(cuDeviceGetAttribute), F(cuDevicePrimaryCtxRetain), F(cuCtxSetCurrent), F(cuDeviceGetDefaultMemPool),
    F(cuMemPoolSetAttribute), F(cuMemPoolTrimTo), F(cuMemGetInfo), F(cuGetErrorString), F(cuMemAllocAsync),
    F(cuMemFreeAsync), F(cuMemAllocHost), F(cuPointerGetAttribute), F(cuMemcpyHtoDAsync), F(cuMemcpyDtoHAsync),
    F(cuMemcpyDtoDAsync), F(cuMemsetD8Async), F(cuStreamCreate), F(cuStreamDestroy), F(cuStreamSynchronize),
    F(cuStreamWaitEvent), F(cuEventCreate), F(cuEventDestroy), F(cuEventRecord), F(cuEventQuery),
    F(cuEventSynchronize), F(cuModuleLoadData), F(cuModuleGetFunction), F(cuFuncSetAttribute), F(cuLaunchKernel),
    F(cuStreamBeginCapture), F(cuStreamEndCapture), {"cuGraphInstantiateWithFlags", (void *)cuGraphInstantiate}, F(cuGraphInstantiate),
    F(cuGraphDestroy), F(cuGraphExecDestroy),
    F(cuGraphLaunch)};

int cuGetProcAddress_v2(const char *name, void **out, int version_, uint64_t flags, int *status) {
    *out = NULL;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(functions[i].name, name)) *out = functions[i].function;
    if (status) *status = *out ? 0 : 1;
    return *out ? OK : 500;
}
