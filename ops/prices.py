"""What AWS charges, in US dollars: list prices of us-east-1, without free tiers, to be re-checked before quoting."""

DYNAMODB_WRITE_UNIT = 0.625e-6
DYNAMODB_READ_UNIT = 0.125e-6
DYNAMODB_GB_MONTH = 0.25
DYNAMODB_RECOVERY_GB_MONTH = 0.20
"""Of point-in-time recovery."""

S3_PUT = 5e-6
"""LIST too."""
S3_GET = 0.4e-6
S3_GB_MONTH = 0.023

SQS_REQUEST = 0.40e-6

LAMBDA_REQUEST = 0.20e-6
LAMBDA_GB_SECOND = 0.0000133334
"""On Arm."""
LAMBDA_X86_GB_SECOND = 0.0000166667
LAMBDA_DISK_GB_SECOND = 0.0000000309
"""Beyond the first 512 MB."""
SCHEDULED_INVOCATION = 1e-6

LOG_BYTE = 0.50e-9
LOG_GB_MONTH = 0.03
METRIC_MONTH = 0.30
ALARM_MONTH = 0.10
DASHBOARD_MONTH = 3.00  # the first three of an account cost nothing
TRACE = 5e-6

KMS_REQUEST = 3e-6
KEY_MONTH = 1.00
