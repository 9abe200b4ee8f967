"""The exact gradients of ctrnn.gradients.schedules.rtrl and ctrnn.gradients.schedules.adjoint in batched torch
operations, on a CUDA device or the CPU, in float64 or float32."""
