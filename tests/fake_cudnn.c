// A libcudnn that convolves on the host: y = conv(x, w) from the descriptors it is given, for tests without a GPU.
//
// It has the functions of convbench/algorithms/library/cudnn_api.py and no others, keeps account of every object made
// and destroyed, refuses what the real one refuses, and fails where a test tells it to. With -DWITH_HEADER it is
// compiled against NVIDIA's cudnn.h, which then judges every signature and number below. -DOLD makes it cuDNN 8,
// -DWITHOUT_FORWARD one that lacks a function.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef WITH_HEADER
#include <cudnn.h>
#else
typedef int cudnnStatus_t, cudnnDataType_t, cudnnTensorFormat_t, cudnnConvolutionMode_t, cudnnMathType_t;
typedef int cudnnConvolutionFwdAlgo_t;
typedef struct cudnnContext *cudnnHandle_t;
typedef struct cudnnTensorStruct *cudnnTensorDescriptor_t;
typedef struct cudnnFilterStruct *cudnnFilterDescriptor_t;
typedef struct cudnnConvolutionStruct *cudnnConvolutionDescriptor_t;
typedef struct CUstream_st *cudaStream_t;
enum { CUDNN_STATUS_SUCCESS = 0, CUDNN_STATUS_BAD_PARAM = 2000 };
enum { CUDNN_DATA_FLOAT, CUDNN_DATA_DOUBLE, CUDNN_DATA_HALF };
enum { CUDNN_TENSOR_NCHW };
enum { CUDNN_CONVOLUTION, CUDNN_CROSS_CORRELATION };
enum { CUDNN_DEFAULT_MATH, CUDNN_TENSOR_OP_MATH, CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION, CUDNN_FMA_MATH };
enum {
  CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
  CUDNN_CONVOLUTION_FWD_ALGO_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_DIRECT, CUDNN_CONVOLUTION_FWD_ALGO_FFT,
  CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING, CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD,
  CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
};
#endif

#ifdef OLD
enum { VERSION = 8907, NOT_SUPPORTED = 9 };
#else
enum { VERSION = 92801, NOT_SUPPORTED = 3000 };
#endif

enum { LIVE = 0x11FE, DEAD = 0xDEAD, DIMENSIONS = 4 };

// Every object begins with `state`, by which a dead or a foreign one is known; dead ones are never given back.
struct cudnnContext { int state; cudaStream_t stream; };
struct cudnnTensorStruct { int state, type, size[DIMENSIONS]; };
struct cudnnFilterStruct { int state, type, size[DIMENSIONS]; };
struct cudnnConvolutionStruct { int state, pad[2], stride[2], dilation[2], compute, groups, math; };

// What a test reads (fake_made and so on: how many), and what it sets: the function that is to fail, and how.
int fake_made, fake_destroyed, fake_misused, fake_forwards;
int fake_math, fake_algorithm;
void *fake_stream, *fake_workspace;
size_t fake_workspace_bytes;
char fake_failing[64];
int fake_status;
static char reason[256];

static cudnnStatus_t failed(int status, const char *why) {
  snprintf(reason, sizeof reason, "%s", why);
  return (cudnnStatus_t)status;
}

static int told_to_fail(const char *function) { return fake_status && strcmp(fake_failing, function) == 0; }

#define ENTER \
  if (told_to_fail(__func__)) return failed(fake_status, "told to fail")
#define REQUIRE(condition) \
  if (!(condition)) return fake_misused++, failed(CUDNN_STATUS_BAD_PARAM, #condition)

#define LIFE(Kind, Type, Struct)                        \
  cudnnStatus_t cudnnCreate##Kind(Type *made) {         \
    ENTER;                                              \
    REQUIRE(made != NULL);                              \
    *made = calloc(1, sizeof(struct Struct));           \
    (*made)->state = LIVE;                              \
    fake_made++;                                        \
    return CUDNN_STATUS_SUCCESS;                        \
  }                                                     \
  cudnnStatus_t cudnnDestroy##Kind(Type given) {        \
    ENTER;                                              \
    REQUIRE(given != NULL && given->state == LIVE);     \
    given->state = DEAD;                                \
    fake_destroyed++;                                   \
    return CUDNN_STATUS_SUCCESS;                        \
  }

LIFE(, cudnnHandle_t, cudnnContext)
LIFE(TensorDescriptor, cudnnTensorDescriptor_t, cudnnTensorStruct)
LIFE(FilterDescriptor, cudnnFilterDescriptor_t, cudnnFilterStruct)
LIFE(ConvolutionDescriptor, cudnnConvolutionDescriptor_t, cudnnConvolutionStruct)

size_t cudnnGetVersion(void) { return VERSION; }

const char *cudnnGetErrorString(cudnnStatus_t status) {
  int number = (int)status;
  return number == NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED" : number == 1001 ? "CUDNN_STATUS_NOT_INITIALIZED"
       : number == 2000 ? "CUDNN_STATUS_BAD_PARAM" : number == 5000 ? "CUDNN_STATUS_EXECUTION_FAILED"
                                                                     : "CUDNN_UNKNOWN_STATUS";
}

#ifndef OLD
void cudnnGetLastErrorString(char *message, size_t size) {
  snprintf(message, size, "%s", reason);
  reason[0] = 0;
}
#endif

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  ENTER;
  REQUIRE(handle->state == LIVE);
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

#define IS_TYPE(type) (type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_DOUBLE || type == CUDNN_DATA_HALF)

cudnnStatus_t cudnnSetTensor4dDescriptor(
    cudnnTensorDescriptor_t x, cudnnTensorFormat_t format, cudnnDataType_t type, int n, int c, int h, int w) {
  ENTER;
  REQUIRE(x->state == LIVE);
  REQUIRE(format == CUDNN_TENSOR_NCHW && IS_TYPE(type));
  REQUIRE(n > 0 && c > 0 && h > 0 && w > 0);
  if ((double)n * c * h * w >= 2147483648.0) return failed(NOT_SUPPORTED, "2 Giga-elements");
  *x = (struct cudnnTensorStruct){LIVE, type, {n, c, h, w}};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilter4dDescriptor(
    cudnnFilterDescriptor_t w, cudnnDataType_t type, cudnnTensorFormat_t format, int k, int c, int r, int s) {
  ENTER;
  REQUIRE(w->state == LIVE);
  REQUIRE(format == CUDNN_TENSOR_NCHW && IS_TYPE(type));
  REQUIRE(k > 0 && c > 0 && r > 0 && s > 0);
  *w = (struct cudnnFilterStruct){LIVE, type, {k, c, r, s}};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(
    cudnnConvolutionDescriptor_t how, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h, int dilation_w,
    cudnnConvolutionMode_t mode, cudnnDataType_t compute) {
  ENTER;
  REQUIRE(how->state == LIVE);
  REQUIRE(mode == CUDNN_CROSS_CORRELATION);
  REQUIRE(compute == CUDNN_DATA_FLOAT || compute == CUDNN_DATA_DOUBLE);
  REQUIRE(pad_h >= 0 && pad_w >= 0 && stride_h > 0 && stride_w > 0 && dilation_h > 0 && dilation_w > 0);
  *how = (struct cudnnConvolutionStruct){
      LIVE, {pad_h, pad_w}, {stride_h, stride_w}, {dilation_h, dilation_w}, compute, 1, CUDNN_DEFAULT_MATH};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t how, int groups) {
  ENTER;
  REQUIRE(how->state == LIVE && how->stride[0] > 0 && groups > 0);
  how->groups = groups;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t how, cudnnMathType_t math) {
  ENTER;
  REQUIRE(how->state == LIVE && how->stride[0] > 0);
  REQUIRE(math == CUDNN_DEFAULT_MATH || math == CUDNN_TENSOR_OP_MATH || math == CUDNN_FMA_MATH);
  how->math = math;
  return CUDNN_STATUS_SUCCESS;
}

// Whether an algorithm takes a convolution, by the tables of cudnnConvolutionForward's documentation.
static int takes(int algorithm, const struct cudnnTensorStruct *x, const int *filter,
                 const struct cudnnConvolutionStruct *how) {
  int plain = 1, inside = 1, small = 1;
  for (int axis = 0; axis < 2; axis++) {
    plain &= how->stride[axis] == 1 && how->dilation[axis] == 1;
    inside &= filter[2 + axis] > how->pad[axis];
    small &= x->size[2 + axis] + 2 * how->pad[axis] <= 256;
  }
  int three = filter[2] == 3 && filter[3] == 3, five = filter[2] == 5 && filter[3] == 5;
  switch (algorithm) {
    case CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM:
    case CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM:
    case CUDNN_CONVOLUTION_FWD_ALGO_GEMM: return 1;
    case CUDNN_CONVOLUTION_FWD_ALGO_FFT: return plain && inside && small;
    case CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING: return plain && inside && filter[2] <= 32 && filter[3] <= 32;
    case CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD: return plain && three && x->type != CUDNN_DATA_DOUBLE;
    case CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED:
      return plain && (three || five) && x->type != CUDNN_DATA_DOUBLE;
    default: return 0;
  }
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(
    cudnnHandle_t handle, const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w,
    const cudnnConvolutionDescriptor_t how, const cudnnTensorDescriptor_t y, cudnnConvolutionFwdAlgo_t algorithm,
    size_t *bytes) {
  ENTER;
  REQUIRE(handle->state == LIVE && x->state == LIVE && w->state == LIVE && how->state == LIVE && y->state == LIVE);
  REQUIRE(x->type == w->type && x->type == y->type);
  REQUIRE((how->compute == CUDNN_DATA_DOUBLE) == (x->type == CUDNN_DATA_DOUBLE));
  REQUIRE(x->size[1] == w->size[1] * how->groups && w->size[0] % how->groups == 0);
  REQUIRE(y->size[0] == x->size[0] && y->size[1] == w->size[0]);
  for (int axis = 0; axis < 2; axis++) {
    int reach = how->dilation[axis] * (w->size[2 + axis] - 1) + 1;
    REQUIRE(y->size[2 + axis] == (x->size[2 + axis] + 2 * how->pad[axis] - reach) / how->stride[axis] + 1);
  }
  if (!takes(algorithm, x, w->size, how)) return failed(NOT_SUPPORTED, "this algorithm does not take this");
  *bytes = 1000 * (size_t)algorithm;
  return CUDNN_STATUS_SUCCESS;
}

static double value(const void *array, int type, size_t place) {
  if (type == CUDNN_DATA_DOUBLE) return ((const double *)array)[place];
  return type == CUDNN_DATA_FLOAT ? ((const float *)array)[place] : (float)((const _Float16 *)array)[place];
}

static void put(void *array, int type, size_t place, double sum) {
  if (type == CUDNN_DATA_DOUBLE) ((double *)array)[place] = sum;
  else if (type == CUDNN_DATA_FLOAT) ((float *)array)[place] = (float)sum;
  else ((_Float16 *)array)[place] = (_Float16)(float)sum;
}

// One output: the filter k over what it sees at row p, column q.
static double output(const void *x, const void *w, const struct cudnnTensorStruct *in, const int *filter,
                     const struct cudnnConvolutionStruct *how, int n, int k, int p, int q) {
  int first = k / (filter[0] / how->groups) * filter[1];
  double sum = 0;
  for (int c = 0; c < filter[1]; c++)
    for (int r = 0; r < filter[2]; r++)
      for (int s = 0; s < filter[3]; s++) {
        int row = p * how->stride[0] - how->pad[0] + r * how->dilation[0];
        int column = q * how->stride[1] - how->pad[1] + s * how->dilation[1];
        if (row < 0 || row >= in->size[2] || column < 0 || column >= in->size[3]) continue;
        size_t place = (((size_t)n * in->size[1] + first + c) * in->size[2] + row) * in->size[3] + column;
        size_t tap = (((size_t)k * filter[1] + c) * filter[2] + r) * filter[3] + s;
        sum += value(x, in->type, place) * value(w, in->type, tap);
      }
  return sum;
}

#ifdef WITHOUT_FORWARD
#define cudnnConvolutionForward another_function
#endif
cudnnStatus_t cudnnConvolutionForward(
    cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t x_how, const void *x,
    const cudnnFilterDescriptor_t w_how, const void *w, const cudnnConvolutionDescriptor_t how,
    cudnnConvolutionFwdAlgo_t algorithm, void *workspace, size_t bytes, const void *beta,
    const cudnnTensorDescriptor_t y_how, void *y) {
  ENTER;
  size_t least;
  cudnnStatus_t status = cudnnGetConvolutionForwardWorkspaceSize(handle, x_how, w_how, how, y_how, algorithm, &least);
  if (status) return status;
  REQUIRE(bytes >= least && (workspace || !least));
  REQUIRE(value(alpha, how->compute, 0) == 1 && value(beta, how->compute, 0) == 0);
  memset(workspace, 0x5A, bytes);
  for (int n = 0; n < y_how->size[0]; n++)
    for (int k = 0; k < y_how->size[1]; k++)
      for (int p = 0; p < y_how->size[2]; p++)
        for (int q = 0; q < y_how->size[3]; q++) {
          size_t place = (((size_t)n * y_how->size[1] + k) * y_how->size[2] + p) * y_how->size[3] + q;
          put(y, y_how->type, place, output(x, w, x_how, w_how->size, how, n, k, p, q));
        }
  fake_forwards++;
  fake_stream = handle->stream;
  fake_math = how->math;
  fake_algorithm = algorithm;
  fake_workspace = workspace;
  fake_workspace_bytes = bytes;
  return CUDNN_STATUS_SUCCESS;
}
