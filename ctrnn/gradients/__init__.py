"""Gradients of a problem's loss: dl/dw, dl/dr0, and what is made of them.

From the bottom: ``result`` (what a gradient is), ``continuous/`` (equations of sensitivities and adjoints),
``recording/`` (forward runs that can be pulled back), ``costs`` and ``method`` (what a method is and what it says of
itself), ``schedules/``, ``online/``, ``independent/`` (the methods, each in one file), ``methods`` (the list of all),
``second/``, ``sensitivity/``, ``rest/`` (second order, events and inputs, states at rest), ``advise/`` (which method,
what it costs), ``check/`` (how right it is), ``api`` (the call). Imports go from the top down to the bottom.
"""
