// The core as TensorFlow ops. This is the only file that knows TensorFlow, and
// it knows it through the C API alone (see tf_c_api.h). The ops are for CPUs.

#include <algorithm>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "custom_ops/cc/arguments.h"
#include "custom_ops/cc/fused_chain.h"
#include "custom_ops/cc/fused_unit.h"
#include "custom_ops/cc/isa.h"
#include "custom_ops/cc/kernels.h"
#include "custom_ops/cc/shift.h"
#include "custom_ops/cc/status.h"
#include "custom_ops/cc/tf_c_api.h"
#include "custom_ops/cc/types.h"

#ifndef KERAS_SHIFT_STAMP
#define KERAS_SHIFT_STAMP "unstamped"
#endif

#define KERAS_SHIFT_EXPORT \
  extern "C" __attribute__((visibility("default"), used))

// Tells which sources this file was compiled from. Python reads it from the
// bytes of the file before it loads it (custom_ops/__init__.py), so it must
// stay text.
KERAS_SHIFT_EXPORT const char keras_shift_stamp[] =
    "keras_shift_stamp=" KERAS_SHIFT_STAMP;

// Returns the instruction set that was chosen for this machine.
KERAS_SHIFT_EXPORT const char* keras_shift_isa() {
  return keras_shift::IsaName(keras_shift::BestIsa());
}

namespace keras_shift {
namespace {

constexpr char kShift2D[] = "KerasShift>Shift2D";
constexpr char kFusedUnit2D[] = "KerasShift>FusedUnit2D";
constexpr char kFusedChain2D[] = "KerasShift>FusedChain2D";
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

StatusPtr NewStatus() { return StatusPtr(TF_NewStatus()); }

// What goes wrong inside a kernel. It is caught before control returns to
// TensorFlow.
class Failure : public std::exception {
 public:
  // `status` has been set by TensorFlow already.
  explicit Failure(StatusPtr status) : status_(std::move(status)) {}
  Failure(TF_Code code, const std::string& message) : status_(NewStatus()) {
    TF_SetStatus(status_.get(), code, message.c_str());
  }
  TF_Status* status() const { return status_.get(); }

 private:
  // It is shared, since exceptions can be copied.
  std::shared_ptr<TF_Status> status_;
};

Failure InvalidArgument(const std::string& message) {
  return Failure(TF_INVALID_ARGUMENT, message);
}

// Calls `function` with a status, and throws if TensorFlow sets it to an error.
template <typename Function>
void CallTensorFlow(Function function) {
  StatusPtr status = NewStatus();
  function(status.get());
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
  } catch (const std::exception& error) {
    // Nothing but std::bad_alloc is to be expected.
    const StatusPtr status = NewStatus();
    TF_SetStatus(status.get(), TF_RESOURCE_EXHAUSTED, error.what());
    report(status.get());
  }
}

// Reports to a kernel's context what `function` throws.
template <typename Function>
void Compute(TF_OpKernelContext* context, Function function) noexcept {
  Guarded(function, [&](TF_Status* status) {
    TF_OpKernelContext_Failure(context, status);
  });
}

// Copies what `function` throws to the result of a shape inference.
template <typename Function>
void Infer(TF_Status* result, Function function) noexcept {
  Guarded(function, [&](TF_Status* status) {
    TF_SetStatus(result, TF_GetCode(status), TF_Message(status));
  });
}

// ---------------------------------------------------------------------------
// The attributes of a node, which a kernel keeps.

int64_t IntAttribute(TF_OpKernelConstruction* context, const char* name) {
  int64_t value = 0;
  CallTensorFlow([&](TF_Status* status) {
    TF_OpKernelConstruction_GetAttrInt64(context, name, &value, status);
  });
  return value;
}

bool BoolAttribute(TF_OpKernelConstruction* context, const char* name) {
  TF_Bool value = 0;
  CallTensorFlow([&](TF_Status* status) {
    TF_OpKernelConstruction_GetAttrBool(context, name, &value, status);
  });
  return value != 0;
}

int64_t NumThreads(TF_OpKernelConstruction* context) {
  const int64_t num_threads = IntAttribute(context, "num_threads");
  ThrowUnlessOk(CheckNumThreads("Attribute", num_threads));
  return num_threads;
}

Pooling PoolingAttribute(TF_OpKernelConstruction* context) {
  // Longer than the values that the op definition admits.
  char text[16] = {};
  CallTensorFlow([&](TF_Status* status) {
    TF_OpKernelConstruction_GetAttrString(context, "pool", text,
                                          sizeof(text) - 1, status);
  });
  const std::string pool = text;
  if (pool == "valid") return Pooling::kValid;
  if (pool == "same") return Pooling::kSame;
  if (pool == "global") return Pooling::kGlobal;
  return Pooling::kNone;
}

std::vector<int64_t> IntsAttribute(TF_OpKernelConstruction* context,
                                   const char* name) {
  int32_t count = 0;
  int32_t total_size = 0;
  CallTensorFlow([&](TF_Status* status) {
    TF_OpKernelConstruction_GetAttrSize(context, name, &count, &total_size,
                                        status);
  });
  std::vector<int64_t> values(count);
  CallTensorFlow([&](TF_Status* status) {
    TF_OpKernelConstruction_GetAttrInt64List(context, name, values.data(),
                                             count, status);
  });
  return values;
}

void StridesAttribute(TF_OpKernelConstruction* context, int64_t* strides) {
  const std::vector<int64_t> values = IntsAttribute(context, "strides");
  if (values.size() != 2) {
    throw InvalidArgument(
        "Attribute `strides` must be two numbers, for rows and columns. "
        "Received: " +
        std::to_string(values.size()) + " of them");
  }
  std::copy(values.begin(), values.end(), strides);
}

// The attributes of the shift and of its gradient.
struct ShiftAttributes {
  int64_t num_threads;
  bool relu;
};

ShiftAttributes MakeShiftAttributes(TF_OpKernelConstruction* context) {
  const int64_t num_threads = NumThreads(context);
  return {.num_threads = num_threads, .relu = BoolAttribute(context, "relu")};
}

struct FusedUnitAttributes {
  int64_t num_threads;
  // Without the numbers that the shapes of the weights tell. The channels that
  // are expanded may be 0, for as many as `expand` has rows.
  FusedUnit unit;
};

FusedUnitAttributes MakeFusedUnitAttributes(TF_OpKernelConstruction* context) {
  FusedUnitAttributes attributes = {};
  attributes.num_threads = NumThreads(context);
  FusedUnit& unit = attributes.unit;
  unit.expanded = IntAttribute(context, "channels");
  unit.filters = IntAttribute(context, "filters");
  StridesAttribute(context, unit.strides);
  unit.pooling = PoolingAttribute(context);
  unit.relu = BoolAttribute(context, "relu");
  unit.residual = BoolAttribute(context, "residual");
  return attributes;
}

struct FusedChainAttributes {
  int64_t num_threads;
  // Without the type of the matrices.
  std::vector<FusedUnit> units;
};

// In the C API, there are no lists of lists. So the attribute `units` has eight
// numbers for each unit: channels, hidden channels, filters, both strides,
// pooling (a number from 0 on, in the order of the op FusedUnit2D), relu and
// residual.
FusedChainAttributes MakeFusedChainAttributes(
    TF_OpKernelConstruction* context) {
  constexpr size_t kNumbers = 8;
  const std::vector<int64_t> numbers = IntsAttribute(context, "units");
  if (numbers.empty() || numbers.size() % kNumbers != 0) {
    throw InvalidArgument(
        "Attribute `units` must have " + std::to_string(kNumbers) +
        " numbers for each unit. Received: " + std::to_string(numbers.size()) +
        " numbers");
  }
  FusedChainAttributes attributes = {.num_threads = NumThreads(context),
                                     .units = {}};
  for (size_t i = 0; i < numbers.size(); i += kNumbers) {
    const int64_t* const n = &numbers[i];
    if (n[5] < 0 || n[5] > static_cast<int64_t>(Pooling::kGlobal)) {
      throw InvalidArgument(
          "Attribute `units` must have a pooling from 0 to 3. Received: " +
          std::to_string(n[5]));
    }
    attributes.units.push_back({.expanded = n[0],
                                .hidden = n[1],
                                .filters = n[2],
                                .strides = {n[3], n[4]},
                                .pooling = static_cast<Pooling>(n[5]),
                                .relu = n[6] != 0,
                                .residual = n[7] != 0});
  }
  return attributes;
}

// Creates a kernel, which is nothing but its attributes. Returns null if `make`
// throws.
template <auto make>
void* Create(TF_OpKernelConstruction* context) {
  using Attributes = decltype(make(context));
  std::unique_ptr<Attributes> attributes;
  Guarded([&] { attributes.reset(new Attributes(make(context))); },
          [&](TF_Status* status) {
            TF_OpKernelConstruction_Failure(context, status);
          });
  return attributes.release();
}

template <typename Attributes>
void Destroy(void* attributes) {
  delete static_cast<Attributes*>(attributes);
}

// ---------------------------------------------------------------------------
// The arguments of a kernel.

TensorPtr Input(TF_OpKernelContext* context, int index) {
  TensorPtr input;
  CallTensorFlow([&](TF_Status* status) {
    TF_Tensor* tensor = nullptr;
    TF_GetInput(context, index, &tensor, status);
    input.reset(tensor);
  });
  return input;
}

TensorPtr Output(TF_OpKernelContext* context, int index, TF_DataType type,
                 const int64_t* dims, int rank) {
  size_t bytes = TF_DataTypeSize(type);
  for (int i = 0; i < rank; ++i) bytes *= dims[i];
  TensorPtr output;
  CallTensorFlow([&](TF_Status* status) {
    output.reset(
        TF_AllocateOutput(context, index, type, dims, rank, bytes, status));
  });
  return output;
}

// Allocates an output of the dtype and shape of `like`.
TensorPtr Output(TF_OpKernelContext* context, int index,
                 const TF_Tensor* like) {
  int64_t dims[4];
  const int rank = TF_NumDims(like);
  for (int i = 0; i < rank; ++i) dims[i] = TF_Dim(like, i);
  return Output(context, index, TF_TensorType(like), dims, rank);
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
  return {.batch = TF_Dim(x, 0),
          .height = TF_Dim(x, 1),
          .width = TF_Dim(x, 2),
          .channels = TF_Dim(x, 3)};
}

void CheckDisplacements(const TF_Tensor* displacements, int64_t channels,
                        const char* whose = "`x`") {
  if (TF_NumDims(displacements) != 2 || TF_Dim(displacements, 0) != 2 ||
      TF_Dim(displacements, 1) != channels) {
    throw InvalidArgument(
        "Argument `displacements` must have shape (2, channels), here (2, " +
        std::to_string(channels) + "), as " + whose + " has " +
        std::to_string(channels) +
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

// The numbers in a word of a matrix of this type.
int64_t NumbersPerWord(TF_DataType type) { return type == TF_BFLOAT16 ? 2 : 1; }

// Checks that these are panels of 16 columns, as fused_unit.h has them, with
// pairs of bfloat16 side by side. Returns the most rows that they have room
// for, without the row of the biases.
int64_t CheckPanels(const char* name, const TF_Tensor* panels) {
  const int64_t numbers = NumbersPerWord(TF_TensorType(panels));
  if (TF_NumDims(panels) != 3 || TF_Dim(panels, 1) < 2 ||
      TF_Dim(panels, 2) != numbers * kPanelColumns) {
    throw InvalidArgument(
        std::string("Argument `") + name + "` must have shape (panels, 1 + " +
        (numbers == 2 ? "pairs, 32), where there is at least a pair"
                      : "rows, 16), where there is at least a row") +
        ". Received: " + name + " of shape " + ShapeText(panels));
  }
  return numbers * (TF_Dim(panels, 1) - 1);
}

// Returns the number of channels that these panels expand: `channels`, or as
// many as they have rows if that is 0.
int64_t CheckExpanded(const TF_Tensor* expand, int64_t channels) {
  const int64_t rows = CheckPanels("expand", expand);
  if (channels == 0) return rows;
  const int64_t numbers = NumbersPerWord(TF_TensorType(expand));
  if (channels < 0 || rows != CeilDiv(channels, numbers) * numbers) {
    throw InvalidArgument(
        "Argument `expand` must have rows for " + std::to_string(channels) +
        " channels. Received: expand of shape " + ShapeText(expand));
  }
  return channels;
}

// Returns the number of rows of these panels. Whether that of pairs is odd, the
// displacements alone tell.
int64_t CheckHidden(const TF_Tensor* project, const TF_Tensor* displacements) {
  const int64_t rows = CheckPanels("project", project);
  const bool odd = TF_TensorType(project) == TF_BFLOAT16 &&
                   TF_NumDims(displacements) == 2 &&
                   TF_Dim(displacements, 1) == rows - 1;
  return odd ? rows - 1 : rows;
}

void CheckPanelsFor(const char* name, const TF_Tensor* panels, const char* what,
                    int64_t columns) {
  const int64_t needed = CeilDiv(columns, kPanelColumns);
  if (TF_Dim(panels, 0) != needed) {
    throw InvalidArgument(
        std::string("Argument `") + name + "` must have " +
        std::to_string(needed) + " panels, for " + std::to_string(columns) +
        " " + what + ". Received: " + name + " of shape " + ShapeText(panels));
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
  Compute(context, [&] {
    const TensorPtr x = Input(context, 0);
    const TensorPtr displacements = Input(context, 1);
    const ImageShape shape = CheckImage(x.get());
    CheckDisplacements(displacements.get(), shape.channels);
    const TensorPtr y = Output(context, 0, x.get());
    const TF_DataType type = TF_TensorType(x.get());
    const auto* whole =
        static_cast<const int32_t*>(TF_TensorData(displacements.get()));
    const auto* attributes = static_cast<const ShiftAttributes*>(kernel);
    if (attributes->relu && type == TF_INT8) {
      throw InvalidArgument(
          "Attribute `relu` is for floats. Received: relu=true for an `x` "
          "of int8");
    }
    ThrowUnlessOk(
        attributes->relu
            ? ReluShift2D(shape, ToFloatType(type), TF_TensorData(x.get()),
                          whole, attributes->num_threads,
                          TF_TensorData(y.get()))
            : Shift2D(shape, TF_DataTypeSize(type), TF_TensorData(x.get()),
                      whole, attributes->num_threads, TF_TensorData(y.get())));
  });
}

void ComputeSparseShift2DGrad(void* kernel, TF_OpKernelContext* context) {
  Compute(context, [&] {
    const TensorPtr x = Input(context, 0);
    const TensorPtr upstream = Input(context, 1);
    const TensorPtr displacements = Input(context, 2);
    const ImageShape shape = CheckImage(x.get());
    CheckUpstream(upstream.get(), x.get());
    CheckDisplacements(displacements.get(), shape.channels);
    const TensorPtr input_gradient = Output(context, 0, x.get());
    const TensorPtr displacement_gradient =
        Output(context, 1, displacements.get());
    const auto* attributes = static_cast<const ShiftAttributes*>(kernel);
    ThrowUnlessOk(SparseShift2DGrad(
        shape, ToFloatType(TF_TensorType(x.get())), TF_TensorData(x.get()),
        attributes->relu, TF_TensorData(upstream.get()),
        ToFloatType(TF_TensorType(displacements.get())),
        TF_TensorData(displacements.get()), attributes->num_threads,
        TF_TensorData(input_gradient.get()),
        TF_TensorData(displacement_gradient.get())));
  });
}

TensorPtr ImageOutput(TF_OpKernelContext* context, const ImageShape& shape) {
  const int64_t dims[] = {shape.batch, shape.height, shape.width,
                          shape.channels};
  return Output(context, 0, TF_FLOAT, dims, 4);
}

void ComputeFusedUnit2D(void* kernel, TF_OpKernelContext* context) {
  Compute(context, [&] {
    const TensorPtr x = Input(context, 0);
    const TensorPtr expand = Input(context, 1);
    const TensorPtr project = Input(context, 2);
    const TensorPtr displacements = Input(context, 3);
    const auto* attributes = static_cast<const FusedUnitAttributes*>(kernel);
    FusedUnit unit = attributes->unit;
    const ImageShape shape = CheckImage(x.get());
    unit.bfloat16 = TF_TensorType(expand.get()) == TF_BFLOAT16;
    unit.expanded = CheckExpanded(expand.get(), unit.expanded);
    unit.hidden = CheckHidden(project.get(), displacements.get());
    ImageShape y_shape;
    ThrowUnlessOk(FusedUnitShape(shape, unit, &y_shape));
    CheckPanelsFor("expand", expand.get(),
                   "hidden channels (the rows of `project`)", unit.hidden);
    CheckPanelsFor("project", project.get(), "filters", unit.filters);
    CheckDisplacements(displacements.get(), unit.hidden, "the hidden tensor");
    const TensorPtr y = ImageOutput(context, y_shape);
    ThrowUnlessOk(FusedUnit2D(
        shape, unit, static_cast<const float*>(TF_TensorData(x.get())),
        TF_TensorData(expand.get()), TF_TensorData(project.get()),
        static_cast<const int32_t*>(TF_TensorData(displacements.get())),
        attributes->num_threads, static_cast<float*>(TF_TensorData(y.get()))));
  });
}

void CheckCount(const char* name, const TF_Tensor* tensor, int64_t count) {
  if (TF_NumDims(tensor) != 1 || TF_Dim(tensor, 0) != count) {
    throw InvalidArgument(std::string("Argument `") + name +
                          "` must have shape (" + std::to_string(count) +
                          ",), for all units. Received: " + name +
                          " of shape " + ShapeText(tensor));
  }
}

void ComputeFusedChain2D(void* kernel, TF_OpKernelContext* context) {
  Compute(context, [&] {
    const TensorPtr x = Input(context, 0);
    const TensorPtr panels = Input(context, 1);
    const TensorPtr displacements = Input(context, 2);
    const auto* attributes = static_cast<const FusedChainAttributes*>(kernel);
    const ImageShape shape = CheckImage(x.get());
    const TF_DataType type = TF_TensorType(panels.get());
    std::vector<FusedUnit> units = attributes->units;
    for (FusedUnit& unit : units) unit.bfloat16 = type == TF_BFLOAT16;
    FusedChainShapes shapes;
    ThrowUnlessOk(FusedChainShape(shape, units, &shapes));
    CheckCount("panels", panels.get(),
               shapes.weight_bytes / TF_DataTypeSize(type));
    CheckCount("displacements", displacements.get(), shapes.displacements);
    const TensorPtr y = ImageOutput(context, shapes.y);
    ThrowUnlessOk(FusedChain2D(
        shape, units, static_cast<const float*>(TF_TensorData(x.get())),
        TF_TensorData(panels.get()),
        static_cast<const int32_t*>(TF_TensorData(displacements.get())),
        attributes->num_threads, static_cast<float*>(TF_TensorData(y.get()))));
  });
}

// ---------------------------------------------------------------------------
// Shape inference. What can be refused is refused while the graph is built.

// Checks that a shape has this rank, which an unknown shape gets.
void CheckRank(TF_ShapeInferenceContext* context, TF_ShapeHandle* shape,
               int64_t rank) {
  CallTensorFlow([&](TF_Status* status) {
    TF_ShapeInferenceContextWithRank(context, shape, rank, shape, status);
  });
}

ShapePtr InputShape(TF_ShapeInferenceContext* context, int index,
                    int64_t rank) {
  ShapePtr shape(TF_NewShapeHandle());
  CallTensorFlow([&](TF_Status* status) {
    TF_ShapeInferenceContextGetInput(context, index, shape.get(), status);
  });
  CheckRank(context, shape.get(), rank);
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
  CallTensorFlow([&](TF_Status* status) {
    TF_ShapeInferenceContextSetOutput(context, index, shape, status);
  });
}

void InferShift2D(TF_ShapeInferenceContext* context, TF_Status* result) {
  Infer(result, [&] {
    const ShapePtr x = InputShape(context, 0, 4);
    const ShapePtr displacements = InputShape(context, 1, 2);
    CheckDisplacementShape(context, displacements.get(), x.get());
    SetOutputShape(context, 0, x.get());
  });
}

void InferSparseShift2DGrad(TF_ShapeInferenceContext* context,
                            TF_Status* result) {
  Infer(result, [&] {
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
  });
}

// Returns dimension `index` of a shape as a shape of rank 1.
ShapePtr Dimension(TF_ShapeInferenceContext* context, TF_ShapeHandle* shape,
                   int64_t index) {
  ShapePtr dimension(TF_NewShapeHandle());
  CallTensorFlow([&](TF_Status* status) {
    TF_ShapeInferenceContextSubshape(context, shape, index, index + 1,
                                     dimension.get(), status);
  });
  return dimension;
}

ShapePtr UnknownShape(TF_ShapeInferenceContext* context, int64_t rank) {
  ShapePtr shape(TF_NewShapeHandle());
  CheckRank(context, shape.get(), rank);
  return shape;
}

ShapePtr Concatenated(TF_ShapeInferenceContext* context, const ShapePtr& first,
                      const ShapePtr& second) {
  ShapePtr shape(TF_NewShapeHandle());
  CallTensorFlow([&](TF_Status* status) {
    TF_ShapeInferenceContextConcatenateShapes(
        context, first.get(), second.get(), shape.get(), status);
  });
  return shape;
}

TF_DataType TypeAttribute(TF_ShapeInferenceContext* context, const char* name) {
  TF_DataType type = TF_FLOAT;
  CallTensorFlow([&](TF_Status* status) {
    TF_ShapeInferenceContext_GetAttrType(context, name, &type, status);
  });
  return type;
}

// Checks that the shapes of the weights fit together, and to x.
void CheckWeightShapes(TF_ShapeInferenceContext* context, TF_ShapeHandle* x,
                       TF_ShapeHandle* expand, TF_ShapeHandle* project,
                       TF_ShapeHandle* displacements) {
  const int64_t numbers = NumbersPerWord(TypeAttribute(context, "W"));
  CheckSameSize("Dimension 2 of argument `expand`", Size(context, expand, 2),
                numbers * kPanelColumns);
  CheckSameSize("Dimension 2 of argument `project`", Size(context, project, 2),
                numbers * kPanelColumns);
  CheckSameSize("Dimension 0 of argument `displacements`",
                Size(context, displacements, 0), 2);
  const int64_t rows = Size(context, project, 1);
  int64_t hidden = Size(context, displacements, 1);
  if (numbers == 1) {
    CheckSameSize(
        "Dimension 1 of argument `displacements`, the hidden channels,", hidden,
        rows < 0 ? -1 : rows - 1);
    if (rows >= 0) hidden = rows - 1;
  } else if (hidden >= 0) {
    CheckSameSize("Dimension 1 of argument `project`", rows,
                  1 + CeilDiv(hidden, 2));
  }
  CheckSameSize("Dimension 0 of argument `expand`, its panels,",
                Size(context, expand, 0),
                hidden < 0 ? -1 : CeilDiv(hidden, kPanelColumns));
  const int64_t expand_rows = Size(context, expand, 1);
  const int64_t channels = Size(context, x, 3);
  if (expand_rows >= 0 && channels >= 0 &&
      expand_rows - 1 > CeilDiv(channels, numbers)) {
    throw InvalidArgument(
        "Argument `expand` must not have more rows than `x` has "
        "channels, and the one of the biases. Received: " +
        std::to_string(expand_rows) + " rows for " + std::to_string(channels) +
        " channels");
  }
}

// Sets the shape of a fused unit's output. All but the batch is unknown, as it
// follows from attributes, and the C API shows a shape inference no attributes
// but types.
void SetBatchOf(TF_ShapeInferenceContext* context, TF_ShapeHandle* x) {
  SetOutputShape(
      context, 0,
      Concatenated(context, Dimension(context, x, 0), UnknownShape(context, 3))
          .get());
}

void InferFusedUnit2D(TF_ShapeInferenceContext* context, TF_Status* result) {
  Infer(result, [&] {
    const ShapePtr x = InputShape(context, 0, 4);
    const ShapePtr expand = InputShape(context, 1, 3);
    const ShapePtr project = InputShape(context, 2, 3);
    const ShapePtr displacements = InputShape(context, 3, 2);
    CheckWeightShapes(context, x.get(), expand.get(), project.get(),
                      displacements.get());
    SetBatchOf(context, x.get());
  });
}

void InferFusedChain2D(TF_ShapeInferenceContext* context, TF_Status* result) {
  Infer(result, [&] { SetBatchOf(context, InputShape(context, 0, 4).get()); });
}

// ---------------------------------------------------------------------------
// Registration, which happens when the library is loaded.

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
  const StatusPtr status = NewStatus();
  TF_RegisterOpDefinition(builder, status.get());
  return TF_GetCode(status.get()) == TF_OK;
}

struct TypeConstraint {
  const char* attribute;
  TF_DataType type;
};

struct KernelFunctions {
  void* (*create)(TF_OpKernelConstruction*);
  void (*compute)(void*, TF_OpKernelContext*);
  void (*destroy)(void*);
};

void RegisterKernel(const char* op, const KernelFunctions& functions,
                    std::initializer_list<TypeConstraint> constraints) {
  TF_KernelBuilder* builder = TF_NewKernelBuilder(
      op, "CPU", functions.create, functions.compute, functions.destroy);
  std::string name = op;
  const StatusPtr status = NewStatus();
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

void RegisterShift2D() {
  const bool registered =
      RegisterOp({.name = kShift2D,
                  .attributes = {"T: {half, bfloat16, float, double, int8}",
                                 "relu: bool = false", "num_threads: int = 0"},
                  .inputs = {"x: T", "displacements: int32"},
                  .outputs = {"y: T"},
                  .infer = InferShift2D});
  if (!registered) return;
  const KernelFunctions functions = {.create = Create<MakeShiftAttributes>,
                                     .compute = ComputeShift2D,
                                     .destroy = Destroy<ShiftAttributes>};
  for (TF_DataType type :
       {TF_HALF, TF_BFLOAT16, TF_FLOAT, TF_DOUBLE, TF_INT8}) {
    RegisterKernel(kShift2D, functions, {{"T", type}});
  }
}

void RegisterSparseShift2DGrad() {
  const bool registered =
      RegisterOp({.name = kSparseShift2DGrad,
                  .attributes = {"T: {half, bfloat16, float, double}",
                                 "D: {float, double}", "relu: bool = false",
                                 "num_threads: int = 0"},
                  .inputs = {"x: T", "upstream: T", "displacements: D"},
                  .outputs = {"input_gradient: T", "displacement_gradient: D"},
                  .infer = InferSparseShift2DGrad});
  if (!registered) return;
  const KernelFunctions functions = {.create = Create<MakeShiftAttributes>,
                                     .compute = ComputeSparseShift2DGrad,
                                     .destroy = Destroy<ShiftAttributes>};
  for (TF_DataType type : {TF_HALF, TF_BFLOAT16, TF_FLOAT, TF_DOUBLE}) {
    for (TF_DataType displacement_type : {TF_FLOAT, TF_DOUBLE}) {
      RegisterKernel(kSparseShift2DGrad, functions,
                     {{"T", type}, {"D", displacement_type}});
    }
  }
}

void RegisterFusedUnit2D() {
  const bool registered =
      RegisterOp({.name = kFusedUnit2D,
                  .attributes = {"W: {float, bfloat16} = DT_FLOAT",
                                 "filters: int", "strides: list(int)",
                                 "pool: {'none', 'valid', 'same', 'global'} "
                                 "= 'none'",
                                 "relu: bool = false", "residual: bool = false",
                                 "channels: int = 0", "num_threads: int = 0"},
                  .inputs = {"x: float", "expand: W", "project: W",
                             "displacements: int32"},
                  .outputs = {"y: float"},
                  .infer = InferFusedUnit2D});
  if (!registered) return;
  const KernelFunctions functions = {.create = Create<MakeFusedUnitAttributes>,
                                     .compute = ComputeFusedUnit2D,
                                     .destroy = Destroy<FusedUnitAttributes>};
  for (TF_DataType type : {TF_FLOAT, TF_BFLOAT16}) {
    RegisterKernel(kFusedUnit2D, functions, {{"W", type}});
  }
}

void RegisterFusedChain2D() {
  const bool registered =
      RegisterOp({.name = kFusedChain2D,
                  .attributes = {"W: {float, bfloat16} = DT_FLOAT",
                                 "units: list(int)", "num_threads: int = 0"},
                  .inputs = {"x: float", "panels: W", "displacements: int32"},
                  .outputs = {"y: float"},
                  .infer = InferFusedChain2D});
  if (!registered) return;
  const KernelFunctions functions = {.create = Create<MakeFusedChainAttributes>,
                                     .compute = ComputeFusedChain2D,
                                     .destroy = Destroy<FusedChainAttributes>};
  for (TF_DataType type : {TF_FLOAT, TF_BFLOAT16}) {
    RegisterKernel(kFusedChain2D, functions, {{"W", type}});
  }
}

// Nobody can be told of errors while a library is being loaded: an op that
// could not be registered is missed when load_op_library looks for it, and a
// kernel when it is called. (That includes a kernel that a second copy of this
// library has registered, too: TensorFlow then refuses to choose.)
void RegisterAll() {
  RegisterShift2D();
  RegisterSparseShift2DGrad();
  RegisterFusedUnit2D();
  RegisterFusedChain2D();
}

__attribute__((constructor)) void RegisterWhenLoaded() noexcept {
  Guarded(RegisterAll, [](TF_Status*) {});
}

}  // namespace
}  // namespace keras_shift
