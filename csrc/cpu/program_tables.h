// Tables of a program as a caller hands them over, checked before anything runs.
#pragma once

#include "cpu/ops.h"
#include "cpu/program.h"

namespace sparsesr {
namespace cpu {

// The tables as a program: every index in them is in range, every step reads what is there.
Program program_of(const char* op, const ProgramTables& tables, const TensorView& constants);

// Throws where taps of a convolution would fall beyond the zeros beside a row. On patches the
// kernels leave out one of two or three taps that lies one pixel outside.
void check_margins(const char* op, const Program& program, bool patches);

}  // namespace cpu
}  // namespace sparsesr
