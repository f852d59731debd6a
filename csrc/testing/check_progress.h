// Which cases of a check program run.
#pragma once

namespace sparsesr {
namespace check {

// Every `every`-th case from `first` on; `passed` counts those that did.
struct Progress {
  int every, first, seen = 0, passed = 0;

  bool next() { return seen++ % every == first; }
};

}  // namespace check
}  // namespace sparsesr
