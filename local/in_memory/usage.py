"""What was used of what AWS charges for."""

WRITE_UNITS = "DynamoDB write units"
INDEX_UNITS = "DynamoDB index write units"
READ_UNITS = "DynamoDB read units"
PUTS = "S3 PUT requests"
QUEUE_REQUESTS = "SQS requests"


class Usage(dict[str, float]):
    """Amounts by what they are of."""

    def add(self, name: str, amount: float = 1) -> None:
        """Count some more."""
        self[name] = self.get(name, 0) + amount
