"""Recordings in batched torch operations, on a CUDA device or the CPU, in float64 or float32."""
