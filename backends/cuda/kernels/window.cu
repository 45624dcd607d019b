// Window arithmetic of convolution and pooling on three spatial axes (missing ones have size 1).
//
// Output position p and kernel position i on one axis see the input cell  h = p·stride + i·dilation − pad.
// Kernel sizes may be fixed at compile time (-DFIXED_I0= …), which turns the divisions that split a tap
// number into (i0, i1, i2) into multiplications.
#ifndef FIXED_I0
#define FIXED_I0 0
#define FIXED_I1 0
#define FIXED_I2 0
#endif
#define PICK(fixed, given) ((fixed) > 0 ? (fixed) : (given))

// Is h a cell of an axis of n cells? One comparison does for both ends.
__device__ __forceinline__ bool inside(int h, int n) { return (unsigned)h < (unsigned)n; }
