#include "custom_ops/cc/shift_plan.h"

#include <algorithm>

#include "custom_ops/cc/types.h"

namespace keras_shift {
namespace {

// Larger images do not fit into a core's own cache, and it pays to prefetch
// rows. Within the cache, prefetching only takes time.
constexpr int64_t kMostInOwnCache = 2 << 20;
// Larger images do not fit into any cache, and it pays to store past all of
// them. Within the caches, such stores are the slower ones.
constexpr int64_t kMostInSharedCache = 16 << 20;

// Whether an interval of `output_size`, moved by `displacement`, has anything
// in common with one of `size`.
bool Overlaps(int64_t displacement, int64_t size, int64_t output_size) {
  return displacement < size && displacement + output_size > 0;
}

// The lanes of a vector that move together.
struct LaneGroup {
  int64_t first;
  // A bit for each lane.
  uint64_t lanes;
};

// Finds the groups of a vector's channels, and returns their number.
int64_t GroupLanes(const int32_t* rows, const int32_t* columns,
                   int64_t num_lanes, LaneGroup* groups) {
  int64_t num_groups = 0;
  uint64_t left = ~uint64_t{0} >> (64 - num_lanes);
  while (left != 0) {
    const int64_t first = __builtin_ctzll(left);
    uint64_t same = 0;
    for (uint64_t rest = left; rest != 0; rest &= rest - 1) {
      const int64_t lane = __builtin_ctzll(rest);
      // There is no branch here, as it would be unpredictable.
      const bool equal =
          (rows[lane] == rows[first]) & (columns[lane] == columns[first]);
      same |= static_cast<uint64_t>(equal) << lane;
    }
    groups[num_groups++] = {.first = first, .lanes = same};
    left &= ~same;
  }
  return num_groups;
}

}  // namespace

Residence ResidenceOf(int64_t bytes) {
  if (bytes <= kMostInOwnCache) return Residence::kOwnCache;
  if (bytes <= kMostInSharedCache) return Residence::kSharedCache;
  return Residence::kMemory;
}

void ShiftPlan::Reach::Include(int64_t row, int64_t column) {
  lowest_row = std::min(lowest_row, row);
  highest_row = std::max(highest_row, row);
  lowest_column = std::min(lowest_column, column);
  highest_column = std::max(highest_column, column);
}

ShiftPlan::ShiftPlan(const PlanShape& shape, const int32_t* rows,
                     const int32_t* columns, const ShiftKernel& kernel)
    : kernel_(kernel) {
  const int64_t pixel_bytes = shape.channels * shape.element_size;
  const int64_t lanes = kernel.vector_bytes / shape.element_size;
  const int64_t num_vectors = CeilDiv(shape.channels, lanes);
  // Views point into these three arrays, so that none of them may move.
  segments_.reserve(num_vectors);
  const int64_t most_taps = num_vectors * lanes;
  taps_.reset(new Tap[most_taps]);
  masks_.reset(new unsigned char[most_taps * kernel.mask_bytes]);
  for (int64_t channel = 0; channel < shape.channels;) {
    const int64_t left = shape.channels - channel;
    // No slice may be smaller than a vector, of whatever kernel.
    const int64_t count =
        left < shape.slice_channels + kMostLanes ? left : shape.slice_channels;
    AddSlice(shape, rows, columns, channel, count);
    channel += count;
  }
  streams_ = shape.residence == Residence::kMemory &&
             kernel.stream_rows != nullptr &&
             pixel_bytes % kernel.vector_bytes == 0;
}

void ShiftPlan::AddSlice(const PlanShape& shape, const int32_t* rows,
                         const int32_t* columns, int64_t first_channel,
                         int64_t num_channels) {
  const int64_t lanes = kernel_.vector_bytes / shape.element_size;
  const int64_t num_vectors = CeilDiv(num_channels, lanes);
  const size_t first_segment = segments_.size();
  Reach reach;
  for (int64_t v = 0; v < num_vectors; ++v) {
    // The last vector ends with the slice, even if it overlaps the one before:
    // a channel may be written twice, but nothing beyond the slice is touched.
    const int64_t channel = std::min(v * lanes, num_channels - lanes);
    AddVector(shape, rows + first_channel + channel,
              columns + first_channel + channel, channel * shape.element_size,
              first_segment, &reach);
  }
  views_.push_back({
      .height = shape.height,
      .width = shape.width,
      .pixel_bytes = shape.channels * shape.element_size,
      .slice_begin = first_channel * shape.element_size,
      .slice_bytes = num_channels * shape.element_size,
      .first_row = -reach.lowest_row,
      .last_row =
          std::min(shape.output_height, shape.height - reach.highest_row),
      .first_column = -reach.lowest_column,
      .last_column =
          std::min(shape.output_width, shape.width - reach.highest_column),
      .prefetch = shape.residence != Residence::kOwnCache,
      .segments = segments_.data() + first_segment,
      .num_segments = static_cast<int64_t>(segments_.size() - first_segment),
      .taps = taps_.get(),
      .masks = masks_.get(),
  });
}

void ShiftPlan::AddVector(const PlanShape& shape, const int32_t* rows,
                          const int32_t* columns, int64_t begin,
                          size_t first_segment, Reach* reach) {
  const int64_t lanes = kernel_.vector_bytes / shape.element_size;
  const int64_t pixel_bytes = shape.channels * shape.element_size;
  const int64_t first_tap = num_taps_;
  LaneGroup groups[kMostLanes];
  const int64_t num_groups = GroupLanes(rows, columns, lanes, groups);
  for (int64_t g = 0; g < num_groups; ++g) {
    const int64_t row = rows[groups[g].first];
    const int64_t column = columns[groups[g].first];
    // Channels that see nothing of the image get no tap, and become zero.
    if (Overlaps(row, shape.height, shape.output_height) &&
        Overlaps(column, shape.width, shape.output_width)) {
      AddTap({.row = row,
              .column = column,
              .offset = (row * shape.width + column) * pixel_bytes},
             groups[g].lanes, shape.element_size);
      reach->Include(row, column);
    }
  }
  const int64_t num_taps = num_taps_ - first_tap;
  if (num_groups > 1 || num_taps == 0) {
    segments_.push_back({.begin = begin,
                         .whole_vectors = 0,
                         .first_tap = first_tap,
                         .num_taps = num_taps});
  } else if (!ExtendRun(begin, first_segment)) {
    segments_.push_back({.begin = begin,
                         .whole_vectors = 1,
                         .first_tap = first_tap,
                         .num_taps = 1});
  }
}

void ShiftPlan::AddTap(const Tap& tap, uint64_t lanes, int64_t element_size) {
  taps_[num_taps_] = tap;
  unsigned char* mask = masks_.get() + num_taps_ * kernel_.mask_bytes;
  ++num_taps_;
  if (kernel_.mask_bytes == kernel_.vector_bytes) {
    std::fill_n(mask, kernel_.mask_bytes, 0);
    for (; lanes != 0; lanes &= lanes - 1) {
      std::fill_n(mask + __builtin_ctzll(lanes) * element_size, element_size,
                  255);
    }
  } else {
    const uint64_t element = (uint64_t{1} << element_size) - 1;
    uint64_t bits = 0;
    for (; lanes != 0; lanes &= lanes - 1) {
      bits |= element << __builtin_ctzll(lanes) * element_size;
    }
    std::copy_n(reinterpret_cast<const unsigned char*>(&bits), sizeof(bits),
                mask);
  }
}

bool ShiftPlan::ExtendRun(int64_t begin, size_t first_segment) {
  if (segments_.size() == first_segment ||
      segments_.back().whole_vectors == 0) {
    return false;
  }
  Segment& run = segments_.back();
  const Tap& tap = taps_[run.first_tap];
  const Tap& latest = taps_[num_taps_ - 1];
  if (tap.row != latest.row || tap.column != latest.column ||
      run.begin + run.whole_vectors * kernel_.vector_bytes != begin) {
    return false;
  }
  ++run.whole_vectors;
  return true;
}

}  // namespace keras_shift
