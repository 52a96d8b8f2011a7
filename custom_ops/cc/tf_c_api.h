// The part of TensorFlow's C API that tf_ops.cc uses, copied from
// tensorflow/c/{c_api_macros,kernels,ops,tf_datatype,tf_status,tf_tensor}.h.
//
// With these declarations written out, TensorFlow is needed neither to compile
// nor to link the op, and one file serves every version: the C API, unlike the
// C++ API, puts no version of Abseil into its symbols.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_TF_C_API_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_TF_C_API_H_

#include <cstddef>
#include <cstdint>

extern "C" {

// tf_status.h
typedef enum TF_Code {
  TF_OK = 0,
  TF_INVALID_ARGUMENT = 3,
  TF_RESOURCE_EXHAUSTED = 8,
} TF_Code;
typedef struct TF_Status TF_Status;

TF_Status* TF_NewStatus(void);
void TF_DeleteStatus(TF_Status*);
void TF_SetStatus(TF_Status*, TF_Code code, const char* message);
TF_Code TF_GetCode(const TF_Status*);
const char* TF_Message(const TF_Status*);

// tf_datatype.h
typedef enum TF_DataType {
  TF_FLOAT = 1,
  TF_DOUBLE = 2,
  TF_INT8 = 6,
  TF_BFLOAT16 = 14,
  TF_HALF = 19,
} TF_DataType;

size_t TF_DataTypeSize(TF_DataType);

// c_api_macros.h
typedef unsigned char TF_Bool;

// tf_tensor.h
typedef struct TF_Tensor TF_Tensor;

void TF_DeleteTensor(TF_Tensor*);
TF_DataType TF_TensorType(const TF_Tensor*);
int TF_NumDims(const TF_Tensor*);
int64_t TF_Dim(const TF_Tensor*, int index);
void* TF_TensorData(const TF_Tensor*);

// kernels.h
typedef struct TF_KernelBuilder TF_KernelBuilder;
typedef struct TF_OpKernelConstruction TF_OpKernelConstruction;
typedef struct TF_OpKernelContext TF_OpKernelContext;

TF_KernelBuilder* TF_NewKernelBuilder(
    const char* op_name, const char* device_name,
    void* (*create)(TF_OpKernelConstruction*),
    void (*compute)(void*, TF_OpKernelContext*), void (*destroy)(void*));
void TF_KernelBuilder_TypeConstraint(TF_KernelBuilder*, const char* attr_name,
                                     const TF_DataType type, TF_Status*);
// Takes the builder, whether it succeeds or not.
void TF_RegisterKernelBuilder(const char* kernel_name, TF_KernelBuilder*,
                              TF_Status*);
void TF_DeleteKernelBuilder(TF_KernelBuilder*);
void TF_OpKernelConstruction_GetAttrInt64(TF_OpKernelConstruction*,
                                          const char* attr_name, int64_t* value,
                                          TF_Status*);
void TF_OpKernelConstruction_GetAttrBool(TF_OpKernelConstruction*,
                                         const char* attr_name, TF_Bool* value,
                                         TF_Status*);
// Writes no terminating zero.
void TF_OpKernelConstruction_GetAttrString(TF_OpKernelConstruction*,
                                           const char* attr_name, char* value,
                                           size_t max_length, TF_Status*);
// -1 stands for what the attribute does not have.
void TF_OpKernelConstruction_GetAttrSize(TF_OpKernelConstruction*,
                                         const char* attr_name,
                                         int32_t* list_size,
                                         int32_t* total_size, TF_Status*);
void TF_OpKernelConstruction_GetAttrInt64List(TF_OpKernelConstruction*,
                                              const char* attr_name,
                                              int64_t* values, int max_values,
                                              TF_Status*);
void TF_OpKernelConstruction_Failure(TF_OpKernelConstruction*, TF_Status*);
void TF_OpKernelContext_Failure(TF_OpKernelContext*, TF_Status*);
void TF_GetInput(TF_OpKernelContext*, int index, TF_Tensor** tensor,
                 TF_Status*);
TF_Tensor* TF_AllocateOutput(TF_OpKernelContext*, int index, TF_DataType,
                             const int64_t* dims, int num_dims, size_t bytes,
                             TF_Status*);

// ops.h
typedef struct TF_DimensionHandle TF_DimensionHandle;
typedef struct TF_OpDefinitionBuilder TF_OpDefinitionBuilder;
typedef struct TF_ShapeHandle TF_ShapeHandle;
typedef struct TF_ShapeInferenceContext TF_ShapeInferenceContext;

TF_OpDefinitionBuilder* TF_NewOpDefinitionBuilder(const char* op_name);
// Takes the builder, whether it succeeds or not.
void TF_RegisterOpDefinition(TF_OpDefinitionBuilder*, TF_Status*);
void TF_OpDefinitionBuilderAddAttr(TF_OpDefinitionBuilder*, const char* spec);
void TF_OpDefinitionBuilderAddInput(TF_OpDefinitionBuilder*, const char* spec);
void TF_OpDefinitionBuilderAddOutput(TF_OpDefinitionBuilder*, const char* spec);
void TF_OpDefinitionBuilderSetShapeInferenceFunction(
    TF_OpDefinitionBuilder*,
    void (*function)(TF_ShapeInferenceContext*, TF_Status*));
TF_ShapeHandle* TF_NewShapeHandle();
void TF_DeleteShapeHandle(TF_ShapeHandle*);
TF_DimensionHandle* TF_NewDimensionHandle();
void TF_DeleteDimensionHandle(TF_DimensionHandle*);
int TF_DimensionHandleValueKnown(TF_DimensionHandle*);
int64_t TF_DimensionHandleValue(TF_DimensionHandle*);
void TF_ShapeInferenceContextGetInput(TF_ShapeInferenceContext*, int index,
                                      TF_ShapeHandle* shape, TF_Status*);
void TF_ShapeInferenceContextSetOutput(TF_ShapeInferenceContext*, int index,
                                       TF_ShapeHandle* shape, TF_Status*);
void TF_ShapeInferenceContext_GetAttrType(TF_ShapeInferenceContext*,
                                          const char* attr_name,
                                          TF_DataType* value, TF_Status*);
void TF_ShapeInferenceContextWithRank(TF_ShapeInferenceContext*,
                                      TF_ShapeHandle* shape, int64_t rank,
                                      TF_ShapeHandle* result, TF_Status*);
void TF_ShapeInferenceContextSubshape(TF_ShapeInferenceContext*,
                                      TF_ShapeHandle* shape, int64_t start,
                                      int64_t end, TF_ShapeHandle* result,
                                      TF_Status*);
void TF_ShapeInferenceContextConcatenateShapes(TF_ShapeInferenceContext*,
                                               TF_ShapeHandle* first,
                                               TF_ShapeHandle* second,
                                               TF_ShapeHandle* result,
                                               TF_Status*);
void TF_ShapeInferenceContextDim(TF_ShapeInferenceContext*,
                                 TF_ShapeHandle* shape, int64_t index,
                                 TF_DimensionHandle* result);

}  // extern "C"

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_TF_C_API_H_
