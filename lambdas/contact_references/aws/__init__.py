"""Adapters to AWS, one store or service operation each; they translate the SDK's errors to the model's."""
