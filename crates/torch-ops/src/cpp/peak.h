// The peak of what libtorch's allocators hand out.

#pragma once

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <atomic>
#include <memory>

namespace {

// Bytes that libtorch's allocators hand out and take back while it is installed. libtorch reports each change to the
// profiler's state of the thread, which this takes the place of; with no state installed it reports nothing.
struct AllocatedBytes : c10::MemoryReportingInfoBase {
  std::atomic<int64_t> bytes{0};
  std::atomic<int64_t> peak{0};

  void reportMemoryUsage(void *, int64_t change, size_t, size_t, c10::Device) override {
    const int64_t now = bytes.fetch_add(change) + change;
    int64_t before = peak.load();
    while (now > before && !peak.compare_exchange_weak(before, now)) {
    }
  }

  bool memoryProfilingEnabled() const override { return true; }
};

// An installed counter. Guards must be taken down in the reverse order of their construction, on the same thread.
struct PeakMemory {
  std::shared_ptr<AllocatedBytes> counter = std::make_shared<AllocatedBytes>();
  c10::DebugInfoGuard guard{c10::DebugInfoKind::PROFILER_STATE, counter};
};

}  // namespace
