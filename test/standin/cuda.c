// SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
// SPDX-License-Identifier: Apache-2.0
//
// A driver for machines without one: its GPU is the host. Streams work at once, unless they are
// recorded; a launch repeats what was recorded. $STANDIN_INIT is what cuInit returns,
// $STANDIN_BYTES the memory of the GPU.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef struct Step { void *to; const void *from; size_t bytes; void (*work)(void); struct Step *next; } Step;
typedef struct { Step *first, **end; } Graph;
typedef struct { Graph *recorded; } Stream;

static long long live, used;
static __thread void *current;

// What tests ask for.
long long standin_live(void) { return live; }
long long standin_used(void) { return used; }

static long long total(void) {
  const char *text = getenv("STANDIN_BYTES");
  return text ? atoll(text) : 1LL << 30;
}

static CUresult enqueue(Stream *stream, Step step) {
  if (!current) return 201;  // CUDA_ERROR_INVALID_CONTEXT
  if (!stream->recorded) {
    if (step.work) step.work(); else memcpy(step.to, step.from, step.bytes);
    return 0;
  }
  Step *copy = malloc(sizeof step);
  *copy = step;
  copy->next = NULL;
  *stream->recorded->end = copy;
  stream->recorded->end = &copy->next;
  return 0;
}

CUresult standin_work(void *stream, void (*work)(void)) { return enqueue(stream, (Step){.work = work}); }

CUresult cuInit(unsigned flags) { const char *code = getenv("STANDIN_INIT"); return code ? atoi(code) : 0; }
CUresult cuGetErrorName(CUresult error, const char **text) {
  *text = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : error == 100 ? "CUDA_ERROR_NO_DEVICE" : NULL;
  return *text ? 0 : 1;
}
CUresult cuGetErrorString(CUresult error, const char **text) { *text = error == 2 ? "out of memory" : NULL; return 0; }
CUresult cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
CUresult cuDeviceGetCount(int *count) { *count = 1; return 0; }
CUresult cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Stand-in GPU", length); return 0; }
CUresult cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 7; return 0; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = total(); return 0; }
CUresult cuDevicePrimaryCtxRetain(void **context, int device) { live++; *context = &live; return 0; }
CUresult cuDevicePrimaryCtxRelease_v2(int device) { live--; return 0; }
CUresult cuCtxSetCurrent(void *context) { current = context; return 0; }
CUresult cuMemGetInfo_v2(size_t *unused, size_t *all) { *unused = total() - used; *all = total(); return 0; }
CUresult cuMemAlloc_v2(uint64_t *address, size_t bytes) {
  if (!current) return 201;
  if (used + (long long)bytes > total()) return 2;
  size_t *block = malloc(bytes + 64);
  *block = bytes;
  used += bytes;
  live++;
  *address = (uint64_t)block + 64;
  return 0;
}
CUresult cuMemFree_v2(uint64_t address) {
  if (!current) return 201;
  size_t *block = (size_t *)(address - 64);
  used -= *block;
  live--;
  free(block);
  return 0;
}
CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned flags) { live++; *address = malloc(bytes); return 0; }
CUresult cuMemFreeHost(void *address) { live--; free(address); return 0; }
CUresult cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
  return enqueue(stream, (Step){(void *)to, from, bytes});
}
CUresult cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
  return enqueue(stream, (Step){to, (void *)from, bytes});
}
CUresult cuStreamCreate(void **stream, unsigned flags) { live++; *stream = calloc(1, sizeof(Stream)); return 0; }
CUresult cuStreamDestroy_v2(void *stream) { live--; free(stream); return 0; }
CUresult cuStreamSynchronize(void *stream) { return ((Stream *)stream)->recorded ? 900 : 0; }
CUresult cuStreamBeginCapture_v2(void *stream, int mode) {
  Graph *graph = calloc(1, sizeof(Graph));
  graph->end = &graph->first;
  ((Stream *)stream)->recorded = graph;
  live++;
  return 0;
}
CUresult cuStreamEndCapture(void *stream, void **graph) {
  *graph = ((Stream *)stream)->recorded;
  ((Stream *)stream)->recorded = NULL;
  return 0;
}
CUresult cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
  Graph *copy = malloc(sizeof(Graph));
  *copy = *(Graph *)graph;
  *executable = copy;
  live++;
  return 0;
}
CUresult cuGraphDestroy(void *graph) { live--; free(graph); return 0; }
CUresult cuGraphExecDestroy(void *executable) { live--; free(executable); return 0; }
CUresult cuGraphLaunch(void *executable, void *stream) {
  for (Step *step = ((Graph *)executable)->first; step; step = step->next) {
    CUresult code = enqueue(stream, *step);
    if (code) return code;
  }
  return 0;
}
