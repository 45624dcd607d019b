// The checks: the kernel is compiled with -fsanitize=thread,bounds,… which puts a call before every
// memory access and every suspicious operation; these are our definitions of the called functions, so
// no sanitizer library is needed. Each unit of memory (1–8 bytes) has a shadow cell that remembers who
// wrote and read it last. Two accesses of one cell by different threads, one of them a write, are
// ordered only by a barrier between them (or __syncwarp within a warp); else they race.
#include "state.h"

extern "C" void* calloc(size_t, size_t);
extern "C" void free(void*);

namespace {
struct Cell {
    unsigned writer_serial, reader_serial;  // block of the last write / read, counted from 1; 0 none
    unsigned writer_phase, reader_phase, writer_warp_phase, reader_warp_phase;
    short writer, reader, reader2;          // threads; reader2 ≠ reader, −1 none
    unsigned char written_atomically, read_by_blocks;
    unsigned initialised;                   // serial of the block that wrote it (shared memory)
    unsigned long long writer_pc, reader_pc;
};
struct Range {
    uintptr_t low, high;
    int unit, constant, shared, index;
    Cell* cells;
};
struct Access {  // one row of the trace
    unsigned long long pc, address, value;
    unsigned block, thread, phase;
    unsigned short bytes;
    unsigned char kind, range;
};
enum { LOAD, STORE, ATOMIC, BLOCK_ENTRY };
enum { MAX_RANGES = 4096 };

Range ranges[MAX_RANGES];
int range_count, buffer_count, known_arrays, last_range;
bool tracing;
Access* open_store;  // its value is known only after the store

Range* range_of(uintptr_t a, int bytes) {
    if (last_range < range_count && a >= ranges[last_range].low && a + bytes <= ranges[last_range].high)
        return &ranges[last_range];
    for (int i = 0; i < range_count; ++i)
        if (a >= ranges[i].low && a + bytes <= ranges[i].high) return &ranges[last_range = i];
    return 0;
}

void add_range(uintptr_t low, size_t bytes, int unit, int constant, int shared, int index) {
    if (range_count == MAX_RANGES) return;
    Cell* cells = (Cell*)calloc(bytes / unit + 2, sizeof(Cell));
    ranges[range_count++] = {low, low + bytes, unit, constant, shared, index, cells};
}

void sync_shared_arrays() {
    for (; known_arrays < cusim_array_count; ++known_arrays) {
        const SharedArray& s = cusim_arrays[known_arrays];
        const int unit = s.alignment < 4 ? (int)s.alignment : 4;
        add_range((uintptr_t)cusim_arena + s.offset, s.bytes, unit, 0, 1, 1000 + known_arrays);
    }
}

void out_of_bounds(int line, unsigned long long pc, uintptr_t a, int bytes, int kind) {
    Finding* f = cusim_find(OUT_OF_BOUNDS, line, pc);
    if (f) {
        unsigned long long best = 1ull << 62;
        for (int i = 0; i < range_count; ++i) {
            const bool after = a + bytes > ranges[i].high && a >= ranges[i].low;
            const unsigned long long distance = after ? a + bytes - ranges[i].high : ranges[i].low - a;
            if (distance < best)
                best = distance, f->buffer = ranges[i].index,
                f->offset = (long long)(a - ranges[i].low);
        }
        f->bytes = bytes, f->detail = kind;
    }
    cusim_stop();
}

void race(int line, unsigned long long pc, const Range* r, const Cell& c, bool with_writer, int other,
          int kind, int bytes, uintptr_t a) {
    Finding* f = cusim_find(RACE, line, pc);
    if (!f) return;
    const unsigned serial = with_writer ? c.writer_serial : c.reader_serial;
    f->buffer = r->index, f->bytes = bytes, f->offset = (long long)(a - r->low);
    f->other_pc = with_writer ? c.writer_pc : c.reader_pc;
    f->detail = kind == LOAD ? 0 : with_writer ? 1 : 2;  // reads what was written, overwrites written, read
    const uint3 id = cusim_threads[other < 0 ? 0 : other].id;
    f->other_thread[0] = id.x, f->other_thread[1] = id.y, f->other_thread[2] = id.z;
    if (serial != cusim_serial) {  // blocks run in the order of k·step + shift
        const unsigned* g = cusim_launch->grid;
        const unsigned long long n = (unsigned long long)g[0] * g[1] * g[2];
        const unsigned long long b =
            ((serial - 1ull) * cusim_launch->block_step + cusim_launch->block_shift) % n;
        f->other_block[0] = (unsigned)(b % g[0]), f->other_block[1] = (unsigned)(b / g[0] % g[1]);
        f->other_block[2] = (unsigned)(b / ((unsigned long long)g[0] * g[1]));
    }
}

void visit(int line, unsigned long long pc, const Range* r, Cell& c, int kind, int bytes, uintptr_t a) {
    const short me = (short)cusim_current;
    const unsigned warp_phase = cusim_warps[me / 32].memory_phase;
    const bool block_wrote = c.writer_serial == cusim_serial, block_read = c.reader_serial == cusim_serial;
    auto ordered = [&](short other, unsigned phase, unsigned other_warp_phase) {
        return other == me || phase != cusim_phase ||
               (other / 32 == me / 32 && other_warp_phase != warp_phase);
    };
    const bool atomic_pair = kind == ATOMIC && c.written_atomically;
    if (c.writer_serial && !atomic_pair) {
        if (block_wrote ? !ordered(c.writer, c.writer_phase, c.writer_warp_phase) : !r->shared)
            race(line, pc, r, c, true, c.writer, kind, bytes, a);
    }
    if (kind == LOAD) {
        if (r->shared && c.initialised != cusim_serial)
            if (Finding* f = cusim_find(UNINITIALISED, line, pc))
                f->buffer = r->index, f->bytes = bytes, f->offset = (long long)(a - r->low);
        if (block_read && c.reader_phase == cusim_phase && c.reader != me) c.reader2 = c.reader;
        else if (!block_read || c.reader_phase != cusim_phase) c.reader2 = -1;
        c.read_by_blocks |= c.reader_serial && !block_read;
        c.reader = me, c.reader_serial = cusim_serial, c.reader_phase = cusim_phase;
        c.reader_warp_phase = warp_phase, c.reader_pc = pc;
        return;
    }
    if (c.reader_serial) {
        const bool other_block = !r->shared && (!block_read || c.read_by_blocks);
        const short other = c.reader != me ? c.reader : c.reader2;
        if (other_block || (block_read && other >= 0 && !ordered(other, c.reader_phase, c.reader_warp_phase)))
            race(line, pc, r, c, false, other, kind, bytes, a);
    }
    c.writer = me, c.writer_serial = cusim_serial, c.writer_phase = cusim_phase;
    c.writer_warp_phase = warp_phase, c.writer_pc = pc, c.written_atomically = kind == ATOMIC;
    c.initialised = cusim_serial;
}

void close_store() {
    if (!open_store) return;
    __builtin_memcpy(&open_store->value, (void*)open_store->address,
                     open_store->bytes < 8 ? open_store->bytes : 8);
    open_store = 0;
}

void record(unsigned long long pc, uintptr_t a, int bytes, int kind, int range) {
    close_store();
    if (cusim_launch->trace_count == cusim_launch->trace_capacity) return;
    Access& row = ((Access*)cusim_launch->trace)[cusim_launch->trace_count++];
    row = {pc, a, 0, cusim_serial - 1, (unsigned)cusim_current, cusim_phase, (unsigned short)bytes,
           (unsigned char)kind, (unsigned char)(range >= 1000 ? 128 + range - 1000 : range == 999 ? 127 : range)};
    if (kind == LOAD) __builtin_memcpy(&row.value, (void*)a, bytes < 8 ? bytes : 8);
    if (kind == STORE || kind == ATOMIC) open_store = &row;
}

void access(void* pointer, int bytes, int kind, int line, void* code, bool may_be_misaligned = false) {
    if (!cusim_launch || cusim_stopped) return;
    const uintptr_t a = (uintptr_t)pointer;
    const uintptr_t stacks = (uintptr_t)cusim_launch->stacks;
    if (a >= stacks && a < stacks + MAX_THREADS * cusim_launch->stack_bytes) return;  // a local variable
    if (a - (uintptr_t)&cusim_here < sizeof cusim_here) return;                       // threadIdx …
    const unsigned long long pc = line ? 0 : (unsigned long long)(uintptr_t)code;
    if (known_arrays < cusim_array_count) sync_shared_arrays();
    const Range* r = range_of(a, bytes);
    if (!r) out_of_bounds(line, pc, a, bytes, kind);
    if (!may_be_misaligned && bytes <= 16 && a % bytes) {
        if (Finding* f = cusim_find(MISALIGNED, line, pc))
            f->buffer = r->index, f->bytes = bytes, f->offset = (long long)(a - r->low);
        cusim_stop();
    }
    if (kind != LOAD && r->constant)
        if (Finding* f = cusim_find(CONST_WRITE, line, pc)) f->buffer = r->index;
    if (tracing) record(line ? (unsigned long long)line : pc, a, bytes, kind, r->index);
    const size_t first = (a - r->low) / r->unit, last = (a + bytes - 1 - r->low) / r->unit;
    for (size_t k = first; k <= last; ++k) visit(line, pc, r, r->cells[k], kind, bytes, a);
}
}  // namespace

// ---- called by the scheduler --------------------------------------------------------------------
CUSIM_API void cusim_forget_buffers() {
    for (int i = 0; i < range_count; ++i) free(ranges[i].cells);
    range_count = buffer_count = last_range = 0;
}
CUSIM_API void cusim_add_buffer(unsigned long long low, unsigned long long bytes, int unit, int constant) {
    add_range((uintptr_t)low, bytes, unit, constant, 0, buffer_count++);
}
void cusim_check_begin() {
    known_arrays = 0;
    open_store = 0;
    if (cusim_launch->dynamic_bytes)
        add_range((uintptr_t)cusim_dynamic_shared(), cusim_launch->dynamic_bytes, 4, 0, 1, 999);
}
void cusim_check_block() {
    __builtin_memset(cusim_arena, 0xff, sizeof cusim_arena);  // NaN to whoever reads it unwritten
    tracing = (int)cusim_serial <= cusim_launch->traced_blocks;
}
void cusim_check_end() {
    close_store();
    cusim_launch = 0;
}
void cusim_check_pause() { close_store(); }
void cusim_atomic_access(int line, void* address, int bytes) {
    access(address, bytes, ATOMIC, line, 0);
}

// ---- called by the instrumented kernel ----------------------------------------------------------
#define HERE __builtin_return_address(0)
#define HOOKS(n)                                                                         \
    void __tsan_read##n(void* p) { access(p, n, LOAD, 0, HERE); }                        \
    void __tsan_write##n(void* p) { access(p, n, STORE, 0, HERE); }                      \
    void __tsan_volatile_read##n(void* p) { access(p, n, LOAD, 0, HERE); }               \
    void __tsan_volatile_write##n(void* p) { access(p, n, STORE, 0, HERE); }             \
    void __tsan_unaligned_read##n(void* p) { access(p, n, LOAD, 0, HERE, true); }        \
    void __tsan_unaligned_write##n(void* p) { access(p, n, STORE, 0, HERE, true); }      \
    void __tsan_read_write##n(void* p) { access(p, n, LOAD, 0, HERE); access(p, n, STORE, 0, HERE); }
#define UNSAFE(name, kind)                                                               \
    void __ubsan_handle_##name(Where* at, ...) { stop_at(kind, at->line); }
struct Where {
    const char* file;
    unsigned line, column;
};
static void stop_at(int kind, unsigned line) {
    if (cusim_launch && !cusim_stopped) cusim_trap(kind, (int)line);
}

extern "C" {
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
void __tsan_read_range(void* p, long n) { if (n) access(p, (int)n, LOAD, 0, HERE, true); }
void __tsan_write_range(void* p, long n) { if (n) access(p, (int)n, STORE, 0, HERE, true); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void* __tsan_memcpy(void* to, const void* from, size_t n) {
    access((void*)from, (int)n, LOAD, 0, HERE, true);
    access(to, (int)n, STORE, 0, HERE, true);
    return __builtin_memcpy(to, from, n);
}
void* __tsan_memset(void* to, int value, size_t n) {
    access(to, (int)n, STORE, 0, HERE, true);
    return __builtin_memset(to, value, n);
}
UNSAFE(out_of_bounds, INDEX)
UNSAFE(type_mismatch_v1, MISALIGNED)
UNSAFE(divrem_overflow, DIVISION)
UNSAFE(shift_out_of_bounds, SHIFT)
void __sanitizer_cov_trace_pc() {
    if (tracing && cusim_launch && !cusim_stopped)
        record((unsigned long long)(uintptr_t)HERE, 0, 0, BLOCK_ENTRY, 0);
}
}

extern "C" CUSIM_LOCAL const char __ehdr_start[] __attribute__((weak));
CUSIM_API unsigned long long cusim_image_address() {  // code addresses minus this are file offsets
    return (unsigned long long)(uintptr_t)__ehdr_start;
}
