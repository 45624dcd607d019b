// The scheduler: runs a grid block by block, and the threads of a block on fibers.
//
// A thread runs to its end unless it meets a barrier or a warp operation; its fiber then goes on with
// the next new thread, so a kernel that never waits costs no switch at all. A waiting thread hands
// control to the scheduler, which resumes it when everyone it waits for has arrived.
#include "fibers.h"

cusim_position cusim_here;
Launch* cusim_launch;
Thread cusim_threads[MAX_THREADS];
Warp cusim_warps[MAX_THREADS / 32];
int cusim_count, cusim_current, cusim_stopped, cusim_array_count;
unsigned cusim_phase, cusim_serial;
alignas(256) char cusim_arena[ARENA];
SharedArray cusim_arrays[MAX_SHARED];

static Finding findings[MAX_FINDINGS];
static int finding_count;
static Context scheduler, fibers[MAX_THREADS];
static int free_fibers[MAX_THREADS], free_count, made_count, next_new;

// ---- findings -----------------------------------------------------------------------------------
static void position(int thread, unsigned* block, unsigned* id) {
    block[0] = cusim_here.block.x, block[1] = cusim_here.block.y, block[2] = cusim_here.block.z;
    id[0] = cusim_threads[thread].id.x, id[1] = cusim_threads[thread].id.y;
    id[2] = cusim_threads[thread].id.z;
}

Finding* cusim_find(int kind, int line, unsigned long long pc) {
    for (int i = 0; i < finding_count; ++i)
        if (findings[i].kind == kind && findings[i].line == line && findings[i].pc == pc)
            return ++findings[i].count, (Finding*)0;
    if (finding_count == MAX_FINDINGS) return 0;
    Finding* f = &findings[finding_count++];
    __builtin_memset(f, 0, sizeof *f);
    f->kind = kind, f->line = line, f->pc = pc, f->count = 1, f->buffer = -1;
    position(cusim_current, f->block, f->thread);
    position(cusim_current, f->other_block, f->other_thread);
    return f;
}

static Finding* find_thread(int kind, int thread) {
    const int current = cusim_current;
    cusim_current = thread;
    Finding* f = cusim_find(kind, cusim_threads[thread].line, 0);
    cusim_current = current;
    return f;
}

static void to_scheduler() {
    fiber_switch(&fibers[cusim_threads[cusim_current].fiber], &scheduler);
}

void cusim_stop() {
    cusim_stopped = 1;
    to_scheduler();
    __builtin_unreachable();
}

void cusim_trap(int kind, int line) {
    cusim_find(kind, line, 0);
    cusim_stop();
}

// ---- running threads ----------------------------------------------------------------------------
static int nth(int k) { return cusim_launch->descending ? cusim_count - 1 - k : k; }

static int take_new() {
    while (next_new < cusim_count) {
        const int i = nth(next_new++);
        if (cusim_threads[i].state == NEW) return i;
    }
    return -1;
}

static void start(int i, int fiber) {
    cusim_current = i;
    cusim_threads[i].fiber = fiber;
    cusim_threads[i].state = RUNNING;
    cusim_here.thread = cusim_threads[i].id;
}

static void fiber_main() {
    for (;;) {
        cusim_launch->entry(cusim_launch->arguments);
        cusim_check_pause();
        Thread& ended = cusim_threads[cusim_current];
        ended.state = DONE;
        const int next = cusim_stopped ? -1 : take_new();
        if (next < 0) {
            to_scheduler();  // which takes the fiber back, and may give it to a new thread later
        } else {
            const int fiber = ended.fiber;
            ended.fiber = -1;
            start(next, fiber);
        }
    }
}

static void resume(int i) {
    Thread& t = cusim_threads[i];
    if (t.fiber < 0) {
        if (!free_count) {
            const size_t bytes = cusim_launch->stack_bytes;
            fiber_make(&fibers[made_count], cusim_launch->stacks + made_count * bytes, bytes);
            free_fibers[free_count++] = made_count++;
        }
        t.fiber = free_fibers[--free_count];
    }
    start(i, t.fiber);
    fiber_switch(&scheduler, &fibers[t.fiber]);
    Thread& back = cusim_threads[cusim_current];  // another one, if the fiber went on with new threads
    if (back.state == DONE && back.fiber >= 0) {
        free_fibers[free_count++] = back.fiber;
        back.fiber = -1;
    }
}

// ---- barriers -----------------------------------------------------------------------------------
int cusim_barrier_count(int line, int predicate) {
    Thread& t = cusim_threads[cusim_current];
    cusim_check_pause();
    t.state = AT_BARRIER, t.line = line, t.predicate = predicate;
    to_scheduler();
    return cusim_threads[cusim_current].predicate;
}

void cusim_barrier(int line) { cusim_barrier_count(line, 0); }

// All living threads wait at barriers: let them go on, if it is one barrier.
static void pass_barrier(int exited) {
    int first = -1, votes = 0;
    for (int k = 0; k < cusim_count && !cusim_stopped; ++k) {
        Thread& t = cusim_threads[k];
        if (t.state != AT_BARRIER) continue;
        if (first < 0) first = k;
        votes += t.predicate;
        if (t.line != cusim_threads[first].line) {
            if (Finding* f = find_thread(DIVERGENT_BARRIER, k)) {
                f->other_line = cusim_threads[first].line;
                position(first, f->other_block, f->other_thread);
            }
            cusim_stopped = 1;
        }
    }
    if (cusim_stopped) return;
    if (exited && cusim_launch->check)
        if (Finding* f = find_thread(EXITED_BARRIER, first)) f->detail = exited;
    ++cusim_phase;
    for (int k = 0; k < cusim_count; ++k)
        if (cusim_threads[k].state == AT_BARRIER)
            cusim_threads[k].state = RUNNING, cusim_threads[k].predicate = votes;
    for (int k = 0; k < cusim_count && !cusim_stopped; ++k)
        if (cusim_threads[nth(k)].state == RUNNING) resume(nth(k));
}

// ---- warp operations ----------------------------------------------------------------------------
static unsigned existing_lanes(int warp) {
    const int lanes = cusim_count - 32 * warp;
    return lanes >= 32 ? 0xffffffffu : (1u << lanes) - 1;
}

void cusim_warp(int line, int op, unsigned mask, const void* value, int bytes,
                unsigned long long all[32], unsigned* arrived) {
    Thread& t = cusim_threads[cusim_current];
    const int warp = cusim_current / 32, lane = cusim_current % 32;
    Warp& w = cusim_warps[warp];
    const unsigned wanted = mask & existing_lanes(warp);
    cusim_check_pause();
    if (!(mask >> lane & 1)) cusim_trap(OUTSIDE_MASK, line);
    if (w.arrived && (w.op != op || w.line != line || w.mask != mask)) {
        if (Finding* f = cusim_find(WARP_MISMATCH, line, 0)) f->other_line = w.line;
        cusim_stop();
    }
    const unsigned side = w.generation & 1;
    __builtin_memcpy(&t.value[side], value, bytes);
    t.generation = w.generation, t.line = line, t.mask = mask, t.op = op;
    w.op = op, w.line = line, w.mask = mask, w.arrived |= 1u << lane;
    if ((w.arrived & wanted) == wanted) {
        w.arrived = 0, ++w.generation;
        if (op == 2) ++w.memory_phase;  // a shuffle orders no memory accesses; __syncwarp does
    } else {
        t.state = AT_WARP;
        to_scheduler();
    }
    for (int k = 0; k < 32 && 32 * warp + k < cusim_count; ++k)
        all[k] = cusim_threads[32 * warp + k].value[side];
    *arrived = wanted;
}

static int resume_finished_warps() {
    int resumed = 0;
    for (int k = 0; k < cusim_count && !cusim_stopped; ++k) {
        const int i = nth(k);
        if (cusim_threads[i].state == AT_WARP &&
            cusim_warps[i / 32].generation != cusim_threads[i].generation)
            resume(i), ++resumed;
    }
    return resumed;
}

static void report_deadlock(int exited) {
    int found[2] = {-1, -1};
    for (int k = cusim_count - 1; k >= 0; --k) {
        if (cusim_threads[k].state == AT_WARP) found[0] = k;
        if (cusim_threads[k].state == AT_BARRIER) found[1] = k;
    }
    if (Finding* f = find_thread(DEADLOCK, found[0])) {
        f->detail = exited;
        f->offset = cusim_threads[found[0]].mask;
        if (found[1] >= 0) {
            f->other_line = cusim_threads[found[1]].line;
            position(found[1], f->other_block, f->other_thread);
        }
    }
    cusim_stopped = 1;
}

// ---- shared memory ------------------------------------------------------------------------------
static size_t static_end;

char* cusim_shared(int id, size_t bytes, size_t alignment, const char* name) {
    for (int i = 0; i < cusim_array_count; ++i)
        if (cusim_arrays[i].id == id && cusim_arrays[i].bytes == bytes)
            return cusim_arena + cusim_arrays[i].offset;
    size_t total = bytes;
    for (int i = 0; i < cusim_array_count; ++i) total += cusim_arrays[i].bytes;
    const size_t offset = (static_end + RED_ZONE + 255) & ~(size_t)255;
    if (total > STATIC_LIMIT || offset + bytes + RED_ZONE > ARENA || cusim_array_count == MAX_SHARED) {
        if (Finding* f = cusim_find(SHARED_SIZE, 0, 0)) f->offset = (long long)total;
        cusim_stop();
    }
    static_end = offset + bytes;
    cusim_arrays[cusim_array_count++] = {id, bytes, offset, alignment, name};
    return cusim_arena + offset;
}

char* cusim_dynamic_shared() { return cusim_arena + RED_ZONE; }

// ---- blocks and grids ---------------------------------------------------------------------------
static void run_block() {
    for (int i = 0; i < cusim_count; ++i)
        cusim_threads[i].state = NEW, cusim_threads[i].generation = 0;
    for (int w = 0; w * 32 < cusim_count; ++w) cusim_warps[w] = Warp();
    next_new = 0;
    ++cusim_phase, ++cusim_serial;
    cusim_check_block();
    for (int i; !cusim_stopped && (i = take_new()) >= 0;) resume(i);
    while (!cusim_stopped) {
        const int resumed = resume_finished_warps();
        if (cusim_stopped) return;
        int done = 0, waiting = 0;
        for (int k = 0; k < cusim_count; ++k) {
            done += cusim_threads[k].state == DONE;
            waiting += cusim_threads[k].state == AT_BARRIER;
        }
        if (done == cusim_count) return;
        if (done + waiting == cusim_count)
            pass_barrier(done);
        else if (!resumed)
            report_deadlock(done);
    }
}

// Returns the number of findings. In the fast build only those that end a launch can occur.
CUSIM_API int cusim_run(Launch* launch) {
    cusim_launch = launch;
    cusim_count = (int)(launch->block[0] * launch->block[1] * launch->block[2]);
    finding_count = cusim_stopped = cusim_array_count = free_count = made_count = 0;
    cusim_phase = cusim_serial = 0;
    static_end = RED_ZONE + launch->dynamic_bytes;
    launch->trace_count = 0;
    for (unsigned i = 0; i < (unsigned)cusim_count; ++i) {
        const unsigned x = launch->block[0], y = launch->block[1];
        cusim_threads[i].id = {i % x, i / x % y, i / (x * y)};
        cusim_threads[i].fiber = -1;
    }
    cusim_here.block_dim = {launch->block[0], launch->block[1], launch->block[2]};
    cusim_here.grid_dim = {launch->grid[0], launch->grid[1], launch->grid[2]};
    cusim_check_begin();
    const unsigned long long gx = launch->grid[0], gy = launch->grid[1];
    const unsigned long long blocks = gx * gy * launch->grid[2];
    for (unsigned long long k = 0; k < blocks && !cusim_stopped; ++k) {
        const unsigned long long b = (k * launch->block_step + launch->block_shift) % blocks;
        cusim_here.block = {(unsigned)(b % gx), (unsigned)(b / gx % gy), (unsigned)(b / (gx * gy))};
        run_block();
    }
    cusim_check_end();
    return finding_count;
}
CUSIM_API const Finding* cusim_findings() { return findings; }
CUSIM_API int cusim_shared_arrays(const SharedArray** arrays) {
    *arrays = cusim_arrays;
    return cusim_array_count;
}
CUSIM_API unsigned long long cusim_arena_address() { return (unsigned long long)(uintptr_t)cusim_arena; }

#ifndef CUSIM_CHECK
void cusim_check_begin() {}
void cusim_check_block() {}
void cusim_check_end() {}
void cusim_check_pause() {}
void cusim_atomic_access(int, void*, int) {}
#endif
