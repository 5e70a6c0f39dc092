"""`validate`: raw events become the lake's validated tables; what breaks a critical expectation is set aside."""
