"""Fine-tuning: base models and adapters that label windows."""
