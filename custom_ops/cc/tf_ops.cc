// The core as TensorFlow ops. This is the only file that knows TensorFlow, and
// it knows it through the C API alone (see tf_c_api.h). The ops are for CPUs.

#include <cstdint>
#include <exception>
#include <initializer_list>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "custom_ops/cc/isa.h"
#include "custom_ops/cc/shift.h"
#include "custom_ops/cc/tf_c_api.h"

#ifndef KERAS_SHIFT_STAMP
#define KERAS_SHIFT_STAMP "unstamped"
#endif

#define KERAS_SHIFT_EXPORT \
  extern "C" __attribute__((visibility("default"), used))

// Which sources this file was compiled from. Python reads it from the bytes of
// the file before it loads it (custom_ops/__init__.py), so it must stay text.
KERAS_SHIFT_EXPORT const char keras_shift_stamp[] =
    "keras_shift_stamp=" KERAS_SHIFT_STAMP;

// The instruction set that was chosen for this machine.
KERAS_SHIFT_EXPORT const char* keras_shift_isa() {
  return keras_shift::IsaName(keras_shift::BestIsa());
}

namespace keras_shift {
namespace {

constexpr char kShift2D[] = "KerasShift>Shift2D";
constexpr char kSparseShift2DGrad[] = "KerasShift>SparseShift2DGrad";

template <auto Delete>
struct Deleter {
  template <typename T>
  void operator()(T* pointer) const {
    Delete(pointer);
  }
};
using StatusPtr = std::unique_ptr<TF_Status, Deleter<TF_DeleteStatus>>;
using TensorPtr = std::unique_ptr<TF_Tensor, Deleter<TF_DeleteTensor>>;
using ShapePtr = std::unique_ptr<TF_ShapeHandle, Deleter<TF_DeleteShapeHandle>>;
using DimensionPtr =
    std::unique_ptr<TF_DimensionHandle, Deleter<TF_DeleteDimensionHandle>>;

// What goes wrong inside a kernel; caught before control returns to TensorFlow.
class Failure : public std::exception {
 public:
  // `status` has been set by TensorFlow already.
  explicit Failure(StatusPtr status) : status_(std::move(status)) {}
  Failure(TF_Code code, const std::string& message)
      : status_(StatusPtr(TF_NewStatus())) {
    TF_SetStatus(status_.get(), code, message.c_str());
  }
  TF_Status* status() const { return status_.get(); }

 private:
  std::shared_ptr<TF_Status> status_;  // shared: exceptions can be copied
};

Failure InvalidArgument(const std::string& message) {
  return Failure(TF_INVALID_ARGUMENT, message);
}

void ThrowUnlessOk(StatusPtr status) {
  if (TF_GetCode(status.get()) != TF_OK) throw Failure(std::move(status));
}

void ThrowUnlessOk(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return;
    case StatusCode::kInvalidArgument:
      throw InvalidArgument(status.message());
    case StatusCode::kOutOfMemory:
      throw Failure(TF_RESOURCE_EXHAUSTED, status.message());
  }
}

// Calls `function`, and `report` with the status of what it throws.
template <typename Function, typename Report>
void Guarded(Function function, Report report) noexcept {
  try {
    function();
  } catch (const Failure& failure) {
    report(failure.status());
  } catch (const std::exception& error) {  // std::bad_alloc, in all likelihood
    StatusPtr status(TF_NewStatus());
    TF_SetStatus(status.get(), TF_RESOURCE_EXHAUSTED, error.what());
    report(status.get());
  }
}

// ---------------------------------------------------------------------------
// Arguments of the kernels.

// What a kernel keeps of its node's attributes.
struct Attributes {
  int64_t num_threads;
};

void* CreateKernel(TF_OpKernelConstruction* context) {
  std::unique_ptr<Attributes> attributes;
  Guarded(
      [&] {
        StatusPtr status(TF_NewStatus());
        int64_t num_threads = 0;
        TF_OpKernelConstruction_GetAttrInt64(context, "num_threads",
                                             &num_threads, status.get());
        ThrowUnlessOk(std::move(status));
        if (num_threads < 0 || num_threads > kMaxThreads) {
          throw InvalidArgument(
              "Attribute `num_threads` must be 0 (one per core) or a number up "
              "to " +
              std::to_string(kMaxThreads) +
              ". Received: num_threads=" + std::to_string(num_threads));
        }
        attributes.reset(new Attributes{num_threads});
      },
      [&](TF_Status* status) {
        TF_OpKernelConstruction_Failure(context, status);
      });
  return attributes.release();
}

void DeleteKernel(void* attributes) {
  delete static_cast<Attributes*>(attributes);
}

TensorPtr Input(TF_OpKernelContext* context, int index) {
  StatusPtr status(TF_NewStatus());
  TF_Tensor* tensor = nullptr;
  TF_GetInput(context, index, &tensor, status.get());
  TensorPtr owned(tensor);
  ThrowUnlessOk(std::move(status));
  return owned;
}

// An output of the dtype and shape of `like`.
TensorPtr Output(TF_OpKernelContext* context, int index,
                 const TF_Tensor* like) {
  int64_t dims[4];
  const int rank = TF_NumDims(like);
  for (int i = 0; i < rank; ++i) dims[i] = TF_Dim(like, i);
  StatusPtr status(TF_NewStatus());
  TensorPtr tensor(TF_AllocateOutput(context, index, TF_TensorType(like), dims,
                                     rank, TF_TensorByteSize(like),
                                     status.get()));
  ThrowUnlessOk(std::move(status));
  return tensor;
}

std::string ShapeText(const TF_Tensor* tensor) {
  std::string text = "(";
  for (int i = 0; i < TF_NumDims(tensor); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(TF_Dim(tensor, i));
  }
  return text + ")";
}

ImageShape CheckImage(const TF_Tensor* x) {
  if (TF_NumDims(x) != 4) {
    throw InvalidArgument(
        "Argument `x` must have rank 4: (batch, height, width, channels). "
        "Received: x of shape " +
        ShapeText(x));
  }
  return {TF_Dim(x, 0), TF_Dim(x, 1), TF_Dim(x, 2), TF_Dim(x, 3)};
}

void CheckDisplacements(const TF_Tensor* displacements, int64_t channels) {
  if (TF_NumDims(displacements) != 2 || TF_Dim(displacements, 0) != 2 ||
      TF_Dim(displacements, 1) != channels) {
    throw InvalidArgument(
        "Argument `displacements` must have shape (2, channels), here (2, " +
        std::to_string(channels) + "), as `x` has " + std::to_string(channels) +
        " channels. Received: displacements of shape " +
        ShapeText(displacements));
  }
}

void CheckUpstream(const TF_Tensor* upstream, const TF_Tensor* x) {
  bool same = TF_NumDims(upstream) == TF_NumDims(x);
  for (int i = 0; same && i < TF_NumDims(x); ++i) {
    same = TF_Dim(upstream, i) == TF_Dim(x, i);
  }
  if (!same) {
    throw InvalidArgument(
        "Argument `upstream` must have the shape of `x`, here " + ShapeText(x) +
        ". Received: upstream of shape " + ShapeText(upstream));
  }
}

FloatType ToFloatType(TF_DataType type) {
  switch (type) {
    case TF_HALF:
      return FloatType::kHalf;
    case TF_BFLOAT16:
      return FloatType::kBfloat16;
    case TF_FLOAT:
      return FloatType::kFloat;
    case TF_DOUBLE:
      return FloatType::kDouble;
    default:
      throw InvalidArgument("No kernel for TensorFlow's data type number " +
                            std::to_string(static_cast<int>(type)));
  }
}

// ---------------------------------------------------------------------------
// The kernels.

void ComputeShift2D(void* kernel, TF_OpKernelContext* context) {
  Guarded(
      [&] {
        const TensorPtr x = Input(context, 0);
        const TensorPtr displacements = Input(context, 1);
        const ImageShape shape = CheckImage(x.get());
        CheckDisplacements(displacements.get(), shape.channels);
        const TensorPtr y = Output(context, 0, x.get());
        ThrowUnlessOk(Shift2D(
            shape, TF_DataTypeSize(TF_TensorType(x.get())),
            TF_TensorData(x.get()),
            static_cast<const int32_t*>(TF_TensorData(displacements.get())),
            static_cast<const Attributes*>(kernel)->num_threads,
            TF_TensorData(y.get())));
      },
      [&](TF_Status* status) { TF_OpKernelContext_Failure(context, status); });
}

void ComputeSparseShift2DGrad(void* kernel, TF_OpKernelContext* context) {
  Guarded(
      [&] {
        const TensorPtr x = Input(context, 0);
        const TensorPtr upstream = Input(context, 1);
        const TensorPtr displacements = Input(context, 2);
        const ImageShape shape = CheckImage(x.get());
        CheckUpstream(upstream.get(), x.get());
        CheckDisplacements(displacements.get(), shape.channels);
        const TensorPtr input_gradient = Output(context, 0, x.get());
        const TensorPtr displacement_gradient =
            Output(context, 1, displacements.get());
        ThrowUnlessOk(SparseShift2DGrad(
            shape, ToFloatType(TF_TensorType(x.get())), TF_TensorData(x.get()),
            TF_TensorData(upstream.get()),
            ToFloatType(TF_TensorType(displacements.get())),
            TF_TensorData(displacements.get()),
            static_cast<const Attributes*>(kernel)->num_threads,
            TF_TensorData(input_gradient.get()),
            TF_TensorData(displacement_gradient.get())));
      },
      [&](TF_Status* status) { TF_OpKernelContext_Failure(context, status); });
}

// ---------------------------------------------------------------------------
// Shape inference: what can be refused is refused while the graph is built.

ShapePtr InputShape(TF_ShapeInferenceContext* context, int index,
                    int64_t rank) {
  ShapePtr shape(TF_NewShapeHandle());
  StatusPtr status(TF_NewStatus());
  TF_ShapeInferenceContextGetInput(context, index, shape.get(), status.get());
  ThrowUnlessOk(std::move(status));
  status.reset(TF_NewStatus());
  TF_ShapeInferenceContextWithRank(context, shape.get(), rank, shape.get(),
                                   status.get());
  ThrowUnlessOk(std::move(status));
  return shape;
}

// The size of a dimension, or -1 where it is unknown.
int64_t Size(TF_ShapeInferenceContext* context, TF_ShapeHandle* shape,
             int64_t index) {
  const DimensionPtr dimension(TF_NewDimensionHandle());
  TF_ShapeInferenceContextDim(context, shape, index, dimension.get());
  return TF_DimensionHandleValueKnown(dimension.get())
             ? TF_DimensionHandleValue(dimension.get())
             : -1;
}

void CheckSameSize(const char* what, int64_t received, int64_t allowed) {
  if (received >= 0 && allowed >= 0 && received != allowed) {
    throw InvalidArgument(std::string(what) + " must be " +
                          std::to_string(allowed) +
                          ". Received: " + std::to_string(received));
  }
}

void CheckDisplacementShape(TF_ShapeInferenceContext* context,
                            TF_ShapeHandle* displacements, TF_ShapeHandle* x) {
  CheckSameSize("Dimension 0 of argument `displacements`",
                Size(context, displacements, 0), 2);
  CheckSameSize("Dimension 1 of argument `displacements`, the channels of `x`,",
                Size(context, displacements, 1), Size(context, x, 3));
}

void SetOutputShape(TF_ShapeInferenceContext* context, int index,
                    TF_ShapeHandle* shape) {
  StatusPtr status(TF_NewStatus());
  TF_ShapeInferenceContextSetOutput(context, index, shape, status.get());
  ThrowUnlessOk(std::move(status));
}

void InferShift2D(TF_ShapeInferenceContext* context, TF_Status* result) {
  Guarded(
      [&] {
        const ShapePtr x = InputShape(context, 0, 4);
        const ShapePtr displacements = InputShape(context, 1, 2);
        CheckDisplacementShape(context, displacements.get(), x.get());
        SetOutputShape(context, 0, x.get());
      },
      [&](TF_Status* status) {
        TF_SetStatus(result, TF_GetCode(status), TF_Message(status));
      });
}

void InferSparseShift2DGrad(TF_ShapeInferenceContext* context,
                            TF_Status* result) {
  Guarded(
      [&] {
        const ShapePtr x = InputShape(context, 0, 4);
        const ShapePtr upstream = InputShape(context, 1, 4);
        const ShapePtr displacements = InputShape(context, 2, 2);
        for (int i = 0; i < 4; ++i) {
          const std::string what = "Dimension " + std::to_string(i) +
                                   " of argument `upstream`, as of `x`,";
          CheckSameSize(what.c_str(), Size(context, upstream.get(), i),
                        Size(context, x.get(), i));
        }
        CheckDisplacementShape(context, displacements.get(), x.get());
        SetOutputShape(context, 0, x.get());
        SetOutputShape(context, 1, displacements.get());
      },
      [&](TF_Status* status) {
        TF_SetStatus(result, TF_GetCode(status), TF_Message(status));
      });
}

// ---------------------------------------------------------------------------
// Registration, when the library is loaded.

struct OpDefinition {
  const char* name;
  std::initializer_list<const char*> attributes;
  std::initializer_list<const char*> inputs;
  std::initializer_list<const char*> outputs;
  void (*infer)(TF_ShapeInferenceContext*, TF_Status*);
};

bool RegisterOp(const OpDefinition& op) {
  TF_OpDefinitionBuilder* builder = TF_NewOpDefinitionBuilder(op.name);
  for (const char* spec : op.attributes) {
    TF_OpDefinitionBuilderAddAttr(builder, spec);
  }
  for (const char* spec : op.inputs) {
    TF_OpDefinitionBuilderAddInput(builder, spec);
  }
  for (const char* spec : op.outputs) {
    TF_OpDefinitionBuilderAddOutput(builder, spec);
  }
  TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, op.infer);
  const StatusPtr status(TF_NewStatus());
  TF_RegisterOpDefinition(builder, status.get());
  return TF_GetCode(status.get()) == TF_OK;
}

struct TypeConstraint {
  const char* attribute;
  TF_DataType type;
};

void RegisterKernel(const char* op, void (*compute)(void*, TF_OpKernelContext*),
                    std::initializer_list<TypeConstraint> constraints) {
  TF_KernelBuilder* builder =
      TF_NewKernelBuilder(op, "CPU", CreateKernel, compute, DeleteKernel);
  std::string name = op;
  const StatusPtr status(TF_NewStatus());
  for (const TypeConstraint& constraint : constraints) {
    TF_KernelBuilder_TypeConstraint(builder, constraint.attribute,
                                    constraint.type, status.get());
    if (TF_GetCode(status.get()) != TF_OK) {
      TF_DeleteKernelBuilder(builder);
      return;
    }
    name += "_" + std::to_string(static_cast<int>(constraint.type));
  }
  TF_RegisterKernelBuilder(name.c_str(), builder, status.get());
}

// There is nobody to report to while a library is being loaded: an op that
// could not be registered is missed when load_op_library looks for it, and a
// kernel when it is called. (So is one that a second copy of this library has
// registered, too: TensorFlow then refuses to choose.)
void RegisterAll() {
  const bool shift_registered = RegisterOp(
      {kShift2D,
       {"T: {half, bfloat16, float, double, int8}", "num_threads: int = 0"},
       {"x: T", "displacements: int32"},
       {"y: T"},
       InferShift2D});
  if (shift_registered) {
    for (TF_DataType type :
         {TF_HALF, TF_BFLOAT16, TF_FLOAT, TF_DOUBLE, TF_INT8}) {
      RegisterKernel(kShift2D, ComputeShift2D, {{"T", type}});
    }
  }
  const bool gradient_registered =
      RegisterOp({kSparseShift2DGrad,
                  {"T: {half, bfloat16, float, double}", "D: {float, double}",
                   "num_threads: int = 0"},
                  {"x: T", "upstream: T", "displacements: D"},
                  {"input_gradient: T", "displacement_gradient: D"},
                  InferSparseShift2DGrad});
  if (gradient_registered) {
    for (TF_DataType type : {TF_HALF, TF_BFLOAT16, TF_FLOAT, TF_DOUBLE}) {
      for (TF_DataType displacement_type : {TF_FLOAT, TF_DOUBLE}) {
        RegisterKernel(kSparseShift2DGrad, ComputeSparseShift2DGrad,
                       {{"T", type}, {"D", displacement_type}});
      }
    }
  }
}

__attribute__((constructor)) void RegisterWhenLoaded() noexcept {
  Guarded(RegisterAll, [](TF_Status*) {});
}

}  // namespace
}  // namespace keras_shift
