"""What Finetune asks of the outside, as Protocols and plain values, one noun a file."""
