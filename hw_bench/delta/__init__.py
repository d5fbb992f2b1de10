"""How large patches of real models are, and what applying costs, beside other tools: ``python -m hw_bench delta``."""
