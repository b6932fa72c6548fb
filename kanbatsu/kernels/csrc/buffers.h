// Reads the buffers of a call in order, and says which does not fit.
#pragma once

#include <initializer_list>

#include "checks.h"

namespace kanbatsu {

class Arguments {
 public:
  explicit Arguments(ffi::RemainingArgs buffers) : buffers_(buffers) {}

  template <class Buffer>
  Buffer next() {
    const auto buffer = buffers_.get<Buffer>(at_++);
    require(buffer.has_value(), "a call lacks a buffer, or one has another type");
    return *buffer;
  }
  const float* next(std::initializer_list<Index> shape) {
    const auto buffer = next<Floats>();
    require(is_shape(buffer, shape), "the shapes of a call's buffers do not fit");
    return buffer.typed_data();
  }
  std::size_t left() const { return buffers_.size() - at_; }

 private:
  ffi::RemainingArgs buffers_;
  std::size_t at_ = 0;
};

class Results {
 public:
  explicit Results(ffi::RemainingRets buffers) : buffers_(buffers) {}

  Floats next() {
    auto buffer = buffers_.get<Floats>(at_++);
    require(buffer.has_value(), "a call lacks a result, or one has another type");
    return **buffer;
  }
  float* next(std::initializer_list<Index> shape) {
    const auto buffer = next();
    require(is_shape(buffer, shape), "the shapes of a call's results do not fit");
    return buffer.typed_data();
  }

 private:
  ffi::RemainingRets buffers_;
  std::size_t at_ = 0;
};

}  // namespace kanbatsu
