"""What steps pass on: references in their texts, the outputs of their jobs, and what an approver gives."""
