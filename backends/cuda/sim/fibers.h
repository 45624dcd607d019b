// Fibers: a stack and a saved stack pointer each. `fiber_switch` saves the callee-saved registers on
// the old stack and restores them from the new one (about 10 ns; ucontext, with its two system
// calls for the signal mask, takes some 200 ns).
#pragma once
#include "state.h"

static void fiber_main();

#if defined(__x86_64__) && !defined(_WIN32) && !defined(CUSIM_UCONTEXT)
typedef void* Context;
extern "C" CUSIM_LOCAL void fiber_switch(Context* from, Context* to);
#ifdef __APPLE__
#define CUSIM_SYMBOL "_fiber_switch"
#else
#define CUSIM_SYMBOL "fiber_switch"
#endif
asm(".text\n.globl " CUSIM_SYMBOL "\n" CUSIM_SYMBOL ":\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq (%rsi), %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
static void fiber_make(Context* c, char* stack, size_t bytes) {
    void** sp = (void**)(stack + bytes);
    *--sp = 0;                   // keeps the stack 16-byte aligned at entry
    *--sp = (void*)fiber_main;   // where `ret` goes
    for (int i = 0; i < 6; ++i) *--sp = 0;
    *c = sp;
}

#elif defined(__aarch64__) && !defined(CUSIM_UCONTEXT)
typedef void* Context;
extern "C" CUSIM_LOCAL void fiber_switch(Context* from, Context* to);
#ifdef __APPLE__
#define CUSIM_SYMBOL "_fiber_switch"
#else
#define CUSIM_SYMBOL "fiber_switch"
#endif
asm(".text\n.globl " CUSIM_SYMBOL "\n.p2align 2\n" CUSIM_SYMBOL ":\n"
    "sub sp, sp, #160\n"
    "stp x19, x20, [sp, #0]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\n"
    "stp x25, x26, [sp, #48]\nstp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
    "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\n"
    "stp d14, d15, [sp, #144]\n"
    "mov x9, sp\nstr x9, [x0]\nldr x9, [x1]\nmov sp, x9\n"
    "ldp x19, x20, [sp, #0]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\n"
    "ldp x25, x26, [sp, #48]\nldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
    "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\n"
    "ldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160\nret\n");
static void fiber_make(Context* c, char* stack, size_t bytes) {
    void** sp = (void**)(stack + bytes - 160);
    for (int i = 0; i < 20; ++i) sp[i] = 0;
    sp[11] = (void*)fiber_main;  // x30, where `ret` goes
    *c = sp;
}

#else
#include <ucontext.h>
typedef ucontext_t Context;
static void fiber_switch(Context* from, Context* to) { swapcontext(from, to); }
static void fiber_make(Context* c, char* stack, size_t bytes) {
    getcontext(c);
    c->uc_stack.ss_sp = stack;
    c->uc_stack.ss_size = bytes;
    c->uc_link = 0;
    makecontext(c, fiber_main, 0);
}
#endif
