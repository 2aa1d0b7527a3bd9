"""Distillation losses as pure functions: one value an example, nothing reduced.

    loss = jnp.mean(losses.kd(student_logits, teacher_logits, temperature=4.0))

Every loss takes what it compares, student first, then keyword-only hyperparameters. The
teacher's gradient is not stopped: that is the caller's choice. A loss that relates the
examples of a batch takes `axis_name`, the mapped axis over which the batch is spread,
and then gives the same values on one device and on many.
"""
