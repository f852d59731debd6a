// A whole Refine-Net on the chosen patches, in one launch: a block takes a group of patches through
// all steps of a program, whose values stay in its shared memory, and writes the result where the
// patches lie on the canvas. Blocks go round the groups, so their number follows the GPU.
#include "cuda/device.h"
#include "cuda/program_conv.h"
#include "cuda/program_points.h"

#include <algorithm>
#include <limits>

namespace sparsesr {
namespace cuda {
namespace {

constexpr int64_t kReservedBytes = 1024;  // of shared memory, by the system, for each block
// What a group of patches costs beside its patches, in patches: steps are waited for, and weights
// are read, once for all of them.
constexpr double kGroupOverhead = 2.0;

__device__ __forceinline__ PatchTarget target_of(const RefinePatchesArgs& args, int32_t slot) {
  auto cell = static_cast<uint32_t>(args.index[slot]);
  auto rest = static_cast<uint32_t>(slot);
  const int32_t image = divide(rest, args.by_k);
  const bool named = cell < static_cast<uint32_t>(args.cells);
  cell = named ? cell : 0u;
  const int32_t row = divide(cell, args.by_grid_cols);
  return {image, row * args.patch_size - args.halo,
          static_cast<int32_t>(cell) * args.patch_size - args.halo, named};
}

template <class T>
__device__ __forceinline__ void run_step(const PatchBlock& block, const PatchStep& step) {
  switch (step.kind) {
    case PatchStepKind::kConv:
      return run_conv<T>(block, step);
    case PatchStepKind::kPoint:
      return run_point<T>(block, step);
    case PatchStepKind::kSelect:
      return run_select<T>(block, step);
    case PatchStepKind::kSoftmax:
      return run_softmax<T>(block, step);
    case PatchStepKind::kMean:
      return run_mean<T>(block, step);
    case PatchStepKind::kResize:
      return run_resize<T>(block, step);
    case PatchStepKind::kNearest:
    case PatchStepKind::kClamp:
      return run_clamp<T>(block, step);
    case PatchStepKind::kShuffle:
      return run_shuffle<T>(block, step);
    case PatchStepKind::kWrite:
      return run_write<T>(block, step);
  }
}

template <class T>
__global__ void __launch_bounds__(kProgramThreads, kProgramBlocksPerSm)
    refine_patches_fwd_kernel(RefinePatchesArgs args) {
  SIMT_DYN_SHARED(char, shared);
  SIMT_SHARED(PatchTarget, targets, kMaxGroupPatches);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  for (int32_t i = thread; i < args.head.zero_bytes / 16; i += kProgramThreads) {
    reinterpret_cast<uint4*>(shared)[i] = make_uint4(0, 0, 0, 0);
  }
  const int32_t groups = (args.slots + args.group - 1) / args.group;
  for (auto g = static_cast<int32_t>(blockIdx.x); g < groups; g += args.blocks) {
    const int32_t first = g * args.group;
    const PatchBlock block = {shared, targets, min(args.group, args.slots - first), args};
    __syncthreads();  // the group before is finished
    if (thread < block.live) targets[thread] = target_of(args, first + thread);
    __syncthreads();
    load_windows<T>(block);
    for (int32_t i = 0; i < args.head.num_steps; ++i) {
      __syncthreads();
      run_step<T>(block, args.steps[i]);
    }
  }
}

template <class T>
void launch_for(const RefinePatchesArgs& args, void* stream) {
  const auto bytes =
      static_cast<size_t>(args.head.zero_bytes) + size_t(args.head.patch_bytes) * args.group;
  auto* refine_patches_fwd = refine_patches_fwd_kernel<T>;
  SIMT_LAUNCH(refine_patches_fwd, static_cast<unsigned>(args.blocks), kProgramThreads, bytes,
              stream, args);
}

}  // namespace

int64_t room_for_patches() { return shared_bytes_per_block() - kProgramStaticBytes; }

// Rounds of the whole GPU, each as long as its groups are large, are to take least.
PatchGroups plan_patch_groups(const PatchTableHead& head, int64_t slots, int64_t wanted) {
  const GpuSize gpu = gpu_size();
  const int64_t room = room_for_patches();
  const auto ceil_of = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  double least = std::numeric_limits<double>::infinity();
  PatchGroups best = {0, 0};
  for (int64_t patches = 1; patches <= kMaxGroupPatches; ++patches) {
    const int64_t bytes = head.zero_bytes + patches * head.patch_bytes;
    if (bytes > room || (wanted > 0 && patches != wanted)) continue;
    const int64_t fitting = gpu.shared_bytes / (bytes + kProgramStaticBytes + kReservedBytes);
    const int64_t together = std::min<int64_t>(std::max<int64_t>(fitting, 1), kProgramBlocksPerSm);
    const int64_t blocks = gpu.multiprocessors * together;
    const int64_t groups = ceil_of(slots, patches);
    // Blocks that share a multiprocessor share its time.
    const int64_t busy = std::min(together, ceil_of(groups, gpu.multiprocessors));
    const double cost =
        static_cast<double>(ceil_of(groups, blocks) * busy) * (patches + kGroupOverhead);
    if (cost >= least) continue;
    least = cost;
    best = {static_cast<int32_t>(patches), static_cast<int32_t>(std::min(groups, blocks))};
  }
  return best;
}

void launch::refine_patches(const RefinePatchesArgs& args, void* stream) {
  const auto dtype = static_cast<DType>(args.head.dtype);
  if (dtype == DType::kFloat32) return launch_for<float>(args, stream);
  if (dtype == DType::kFloat16) return launch_for<Half>(args, stream);
  launch_for<BFloat16>(args, stream);
}

}  // namespace cuda
}  // namespace sparsesr
