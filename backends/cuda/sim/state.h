// What the scheduler (runtime.cpp) and the checks (check.cpp) share. One launch runs at a time.
#pragma once
#include "cusim.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
#undef __noinline__
#undef __forceinline__

#define CUSIM_API extern "C" __attribute__((visibility("default")))

enum Kind {  // of findings; the same numbers in findings.py
    ABSENT_LANE = 1, OUTSIDE_MASK, WARP_MISMATCH, DEADLOCK, DIVERGENT_BARRIER, EXITED_BARRIER,
    RACE, UNINITIALISED, OUT_OF_BOUNDS, MISALIGNED, CONST_WRITE, INDEX, DIVISION, SHIFT, SHARED_SIZE,
};
enum State { NEW, RUNNING, AT_BARRIER, AT_WARP, DONE };

struct Thread {
    State state;
    int fiber;  // −1: none
    uint3 id;
    int line, op, predicate;
    unsigned mask, generation;         // generation: warp operations seen by this thread's warp
    unsigned long long value[2];       // what it brings to a warp operation, double-buffered
};
struct Warp {
    unsigned arrived, mask, generation, memory_phase;  // memory_phase counts __syncwarp only
    int line, op;
};
struct Finding {
    int kind, line, other_line, buffer, bytes, detail, count;
    unsigned block[3], thread[3], other_block[3], other_thread[3];
    unsigned long long pc, other_pc;
    long long offset;
};
struct SharedArray {
    int id;
    size_t bytes, offset, alignment;
    const char* name;
};
struct Launch {
    void (*entry)(void**);
    void** arguments;
    unsigned grid[3], block[3];
    unsigned dynamic_bytes, descending, block_step, block_shift;
    int check, traced_blocks;
    char* stacks;
    unsigned long long stack_bytes;
    void* trace;
    unsigned long long trace_capacity, trace_count;
};

const int MAX_THREADS = 1024, MAX_FINDINGS = 64, MAX_SHARED = 64;
const size_t ARENA = 320 * 1024, RED_ZONE = 256, STATIC_LIMIT = 48 * 1024;

extern "C" {
extern CUSIM_LOCAL Launch* cusim_launch;
extern CUSIM_LOCAL Thread cusim_threads[MAX_THREADS];
extern CUSIM_LOCAL Warp cusim_warps[MAX_THREADS / 32];
extern CUSIM_LOCAL int cusim_count, cusim_current;      // threads of a block; the running one
extern CUSIM_LOCAL unsigned cusim_phase, cusim_serial;  // barriers passed so far; blocks begun so far
extern CUSIM_LOCAL int cusim_stopped;
extern CUSIM_LOCAL char cusim_arena[ARENA];
extern CUSIM_LOCAL SharedArray cusim_arrays[MAX_SHARED];
extern CUSIM_LOCAL int cusim_array_count;
CUSIM_LOCAL Finding* cusim_find(int kind, int line, unsigned long long pc);  // 0 when already known
CUSIM_LOCAL void cusim_stop();  // ends the launch; does not return
// The checks' part; empty in the fast build.
CUSIM_LOCAL void cusim_check_begin();
CUSIM_LOCAL void cusim_check_block();
CUSIM_LOCAL void cusim_check_end();
CUSIM_LOCAL void cusim_check_pause();  // the current thread is about to wait or has ended
}
