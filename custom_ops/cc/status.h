// What a call into the core reports: success, or why it refused.

#ifndef KERAS_SHIFT_CUSTOM_OPS_CC_STATUS_H_
#define KERAS_SHIFT_CUSTOM_OPS_CC_STATUS_H_

#include <string>
#include <utility>

namespace keras_shift {

enum class StatusCode { kOk, kInvalidArgument, kOutOfMemory };

// The core neither throws nor aborts: its callers are frameworks that were
// compiled by somebody else, with other ideas about exceptions.
class Status {
 public:
  Status() = default;

  static Status InvalidArgument(std::string message) {
    return Status(StatusCode::kInvalidArgument, std::move(message));
  }
  // The text is short enough for std::string to hold without allocating.
  static Status OutOfMemory() noexcept {
    return Status(StatusCode::kOutOfMemory, "out of memory");
  }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Status(StatusCode code, std::string message)
      : code_(code), message_(std::move(message)) {}

  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

}  // namespace keras_shift

#endif  // KERAS_SHIFT_CUSTOM_OPS_CC_STATUS_H_
