"""What drift bookkeeping costs, beside libraries that do a part of it: whylogs' profiles and River's ADWIN."""
