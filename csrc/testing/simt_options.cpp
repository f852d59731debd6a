#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <utility>

#include "testing/simt_grid.h"

namespace simt {
namespace {

template <class Value>
Value choice(const char* variable, std::initializer_list<std::pair<const char*, Value>> choices) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return choices.begin()->second;
  std::string known;
  for (const auto& [name, value] : choices) {
    if (std::strcmp(text, name) == 0) return value;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  throw std::runtime_error(std::string(variable) + ": expected one of " + known + ", got '" + text +
                           "'");
}

Options options_from_environment() {
  Options asked;
  const char* order = std::getenv("SIMT_ORDER");
  if (order != nullptr && *order >= '0' && *order <= '9') {
    asked.order = Order::kShuffled;
    asked.seed = static_cast<unsigned>(std::atoi(order));
  } else {
    asked.order = choice<Order>("SIMT_ORDER", {{"ascending", Order::kAscending},
                                               {"descending", Order::kDescending},
                                               {"<seed>", Order::kShuffled}});
  }
  asked.poison = choice<Poison>(
      "SIMT_POISON",
      {{"negative", Poison::kNegative}, {"positive", Poison::kPositive}, {"none", Poison::kNone}});
  asked.cp_async = choice<CopyAsync>("SIMT_CP_ASYNC",
                                     {{"eager", CopyAsync::kEager}, {"wait", CopyAsync::kAtWait}});
  return asked;
}

}  // namespace

Options& options() {
  static Options chosen = options_from_environment();
  return chosen;
}

}  // namespace simt
