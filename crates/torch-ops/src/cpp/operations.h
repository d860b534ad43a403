// How often libtorch's operations are called.

#pragma once

#include <ATen/record_function.h>

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

namespace {

// Operations that start no kernel on a GPU: views of a tensor, and allocations.
const std::set<std::string> kFree = {
    "_local_scalar_dense",
    "_reshape_alias",
    "_unsafe_view",
    "alias",
    "as_strided",
    "chunk",
    "contiguous",
    "detach",
    "detach_",
    "diagonal",
    "empty",
    "empty_like",
    "empty_strided",
    "expand",
    "expand_as",
    "flatten",
    "item",
    "lift_fresh",
    "narrow",
    "new_empty",
    "new_empty_strided",
    "permute",
    "reshape",
    "resize_",
    "resolve_conj",
    "resolve_neg",
    "select",
    "set_",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "squeeze_",
    "t",
    "to",
    "transpose",
    "unbind",
    "unflatten",
    "unsqueeze",
    "view",
    "view_as",
};

// An operation that is being called. Those that call others are not counted: the others do the work.
struct Call : at::ObserverContext {
  Call *caller;
  bool calls_others = false;
};

thread_local Call *current_call = nullptr;

// The counts of all threads since the counter was installed; one is installed at a time.
struct Operations {
  std::mutex lock;
  std::map<std::string, int64_t> counts;
};

Operations &operations() {
  static Operations all;
  return all;
}

std::unique_ptr<at::ObserverContext> begin_call(const at::RecordFunction &) {
  auto call = std::make_unique<Call>();
  call->caller = current_call;
  current_call = call.get();
  return call;
}

void end_call(const at::RecordFunction &function, at::ObserverContext *context) {
  auto *call = static_cast<Call *>(context);
  current_call = call->caller;
  const std::string name = function.name();
  const std::string prefix = "aten::";
  const bool is_counted = name.rfind(prefix, 0) == 0 && kFree.count(name.substr(prefix.size())) == 0;
  if (current_call != nullptr && (is_counted || call->calls_others)) current_call->calls_others = true;
  if (!is_counted || call->calls_others) return;
  const std::lock_guard guard(operations().lock);
  ++operations().counts[name];
}

at::CallbackHandle start_counting() {
  operations().counts.clear();
  return at::addGlobalCallback(
      at::RecordFunctionCallback(begin_call, end_call).scopes({at::RecordScope::FUNCTION}));
}

// Lines of a count and a name.
std::string counted_operations() {
  const std::lock_guard guard(operations().lock);
  std::string lines;
  for (const auto &[name, count] : operations().counts) lines += std::to_string(count) + " " + name + "\n";
  return lines;
}

}  // namespace
