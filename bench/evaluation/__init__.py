"""The numbers of the protocol: few-shot accuracy and verification."""
